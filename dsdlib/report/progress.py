"""One bar for a whole report, with an estimate of the time left, in a terminal and in a log."""

import json
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

BAR = re.compile(r"(\d+/\d+) \[")  # how far a sweep's own bar has come


def last_durations(folder: Path) -> dict[str, float]:
    """How many seconds each notebook in ``folder`` took when it was last executed."""
    found = {}
    for path in folder.glob("*.ipynb"):
        seconds = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("papermill", {}).get("duration")
        if seconds and not path.name.endswith(".failed.ipynb"):
            found[path.stem] = seconds
    return found


class ReportProgress:
    """A bar over the sections of a report, which counts each as the time it took in the last report.

    A section that has never been run counts as much as the mean of the others. The time left is estimated from how
    long the finished share has taken. ``note`` and ``finish`` may be called from several threads.
    """

    def __init__(self, sections: list[str], earlier: Mapping[str, float], out: TextIO):
        known = [earlier[name] for name in sections if name in earlier]
        usual = sum(known) / len(known) if known else 1.0
        self.weights = {name: earlier.get(name, usual) for name in sections}
        self.state: dict[str, str] = {}  # of the sections that are running
        self.done, self.lock = 0, threading.Lock()
        self.bar = tqdm(
            desc=f"0 of {len(sections)} sections",
            total=sum(self.weights.values()),
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}, about {remaining} left{postfix}",
            file=out,
            ncols=110,
        )
        self.interval = 0.5 if out.isatty() else 30  # seconds between two states that are shown
        self.shown = 0.0

    def note(self, section: str, text: str) -> None:
        """What a notebook has printed: a sweep's own bar becomes part of this one, and other lines are shown above."""
        for line in text.split("\n"):
            last = line.rpartition("\r")[2]
            if found := BAR.search(last):
                self.state[section] = found[1]
            elif last.strip():
                with self.lock:
                    self.bar.write(f"{section}: {last}", file=self.bar.fp)
        self.refresh()

    def start(self, section: str) -> None:
        """A section has begun."""
        self.state[section] = "starting"
        self.refresh()

    def finish(self, section: str) -> None:
        """A section has finished."""
        self.state.pop(section, None)
        self.done += 1
        self.bar.n += self.weights[section]
        self.refresh(now=True)

    def refresh(self, now: bool = False) -> None:
        """Show the present state, unless one was shown a moment ago."""
        with self.lock:
            if not now and time.monotonic() - self.shown < self.interval:
                return
            self.shown = time.monotonic()
            running = ", ".join(f"{name} {where}" for name, where in list(self.state.items()))
            self.bar.set_description_str(f"{self.done} of {len(self.weights)} sections", refresh=False)
            self.bar.set_postfix_str(running, refresh=False)
            self.bar.refresh()

    def close(self) -> None:
        """Leave the bar as it is."""
        self.bar.close()

"""How far a sweep has come: one bar, and the tables of its finished rounds for a function that draws them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pandas as pd
from tqdm import tqdm

from dsdlib.config import RunConfig
from dsdlib.study.locks import holder
from dsdlib.study.store import Store

Draw = Callable[[Mapping[RunConfig, pd.DataFrame]], None]


@contextmanager
def show_progress(store: Store, configs: list[RunConfig], show: bool | Draw) -> Iterator[None]:
    """Show one bar over all rounds of all runs. It counts the rounds in the store, whichever process trains them.

    If ``show`` is a function, it is called in another thread with a tidy table of each run that has finished rounds,
    whenever there are more of them.
    """
    progress, stop = _Progress(store, configs, show), threading.Event()

    def watch() -> None:
        while not stop.wait(1):
            progress.look()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        progress.look()
        progress.bar.close()


class _Progress:
    """The bar of a sweep, and the tables of its runs as they were last read."""

    def __init__(self, store: Store, configs: list[RunConfig], show: bool | Draw):
        self.store, self.configs, self.draw = store, configs, show if callable(show) else None
        self.done = self.rounds_done()
        self.tables: dict[RunConfig, pd.DataFrame] = {}
        live = sys.stdout.isatty() or "ipykernel" in sys.modules
        total, before = sum(config.rounds + 1 for config in configs), sum(self.done.values())
        self.bar = tqdm(
            total=total,
            initial=before,
            desc="starting workers",
            unit="round",
            file=sys.stdout,
            disable=not show or before == total,
            mininterval=1 if live else 10,
            dynamic_ncols=False,
            ncols=90,
        )

    def rounds_done(self) -> dict[RunConfig, int]:
        return {config: self.store.rounds_done(config) for config in self.configs}

    def look(self) -> None:
        """Look at the store: move the bar, and draw the rounds that are finished if there are more of them."""
        done = self.rounds_done()
        new = [config for config in self.configs if done[config] != self.done[config]]
        if not self.bar.disable:
            if new or any(holder(self.store.locks, config.key) for config in self.configs):
                self.bar.set_description_str(f"{len(done)} run{'s' * (len(done) != 1)}", refresh=False)
            self.bar.update(sum(done.values()) - sum(self.done.values()))
            if self.draw or sys.stdout.isatty():
                self.bar.refresh()  # for a reader the clock goes on, even if no round has been finished
        self.done = done
        if self.draw and new:
            read = [config for config in self.configs if done[config] and (config in new or config not in self.tables)]
            self.tables |= {config: self.store.table([config]) for config in read}
            self.draw(self.tables)

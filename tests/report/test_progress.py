"""The report's bar: what it shows of the sections, and how it estimates the time left."""

import io
import json
from pathlib import Path

import pytest

from dsdlib.report.progress import ReportProgress, last_durations


class Terminal(io.StringIO):
    """Text that is shown at once."""

    def isatty(self) -> bool:
        return True


def last_line(terminal: io.StringIO) -> str:
    return terminal.getvalue().rstrip("\n").split("\r")[-1]


def test_sections_count_as_long_as_they_took_and_new_ones_as_the_mean() -> None:
    terminal = Terminal()
    progress = ReportProgress(["01", "02", "03"], {"01": 10.0, "02": 30.0, "04": 1000.0}, terminal)
    assert progress.weights == {"01": 10.0, "02": 30.0, "03": 20.0}
    progress.finish("02")
    assert "1 of 3 sections:  50%|" in last_line(terminal)
    progress.finish("01")
    assert "2 of 3 sections:  67%|" in last_line(terminal)


def test_the_time_left_follows_from_the_share_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    progress = ReportProgress(["01", "02"], {"01": 10.0, "02": 30.0}, terminal)
    assert "about ? left" in last_line(terminal)
    progress.bar.start_t -= 60  # as if a minute had passed
    progress.finish("01")
    assert "01:00, about 03:00 left" in last_line(terminal)


def test_a_sweeps_bar_is_part_of_the_reports_and_other_lines_stand_above_it() -> None:
    terminal = Terminal()
    progress = ReportProgress(["01", "02"], {}, terminal)
    progress.start("01")
    progress.note("01", "\r4 runs:  20%|██▌    | 4/20 [00:05<00:04,  3.99round/s]")
    progress.note("01", "\r4 runs:  60%|█████▏ | 12/20 [00:06<00:01,  6.30round/s]\nrun ab diverged\n")
    progress.refresh(now=True)
    assert "01 12/20" in last_line(terminal)
    assert "01: run ab diverged\n" in terminal.getvalue() and "runs:" not in terminal.getvalue()


def test_a_log_is_not_filled_with_states_of_the_bar() -> None:
    log = io.StringIO()
    progress = ReportProgress(["01", "02"], {}, log)
    for n in range(100):
        progress.note("01", f"\r4 runs: 0%| | {n}/100 [00:05<00:04]")
    progress.finish("01")
    assert log.getvalue().count("\r") <= 3 and "1 of 2 sections:  50%" in last_line(log)


def test_durations_are_those_of_the_executed_notebooks(tmp_path: Path) -> None:
    for name, run in {"01": {"duration": 12.5}, "02": {}, "03.failed": {"duration": 1.0}}.items():
        (tmp_path / f"{name}.ipynb").write_text(json.dumps({"metadata": {"papermill": run}}))
    assert last_durations(tmp_path) == {"01": 12.5}

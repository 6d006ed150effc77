"""The progress of a sweep: what the bar says, and the finished rounds that a function is given to draw."""

import re
import time

import pandas as pd
import pytest

from dsdlib import RunConfig, sweep
from dsdlib.study import locks
from dsdlib.study.files import write_rows
from dsdlib.study.progress import show_progress
from dsdlib.study.store import Store


def test_a_function_is_given_the_finished_rounds_of_each_run(tiny: RunConfig) -> None:
    seen = []
    runs = [tiny.vary(rounds=rounds, teacher=tiny) for rounds in (2, 3)]
    sweep(runs[0], progress=False)
    table = sweep(runs, progress=lambda tables: seen.append({config: len(part) for config, part in tables.items()}))
    assert seen[-1] == {runs[0]: 3, runs[1]: 4}, "runs that were finished before are drawn as well"
    assert [sum(lengths.values()) for lengths in seen] == sorted(sum(lengths.values()) for lengths in seen)
    last = []
    sweep([tiny.vary(seed=1)], progress=last.append)
    pd.testing.assert_frame_equal(last[-1][tiny.vary(seed=1)], sweep([tiny.vary(seed=1)]))
    assert sweep(runs, progress=seen.append).equals(table) and len(seen[-1]) == 2, "nothing is trained, nothing drawn"


def test_a_run_that_grows_is_read_again(tiny: RunConfig) -> None:
    store, lengths = Store(), []
    sweep(tiny, progress=False)
    rows = store.rows(tiny)
    write_rows(store.folder(tiny) / "rounds.parquet", rows[:1])
    with show_progress(store, [tiny], lambda tables: lengths.append(len(tables[tiny]))):
        write_rows(store.folder(tiny) / "rounds.parquet", rows[:2])
    with show_progress(store, [tiny], lambda tables: lengths.append(len(tables[tiny]))):
        pass
    assert lengths == [2], "without a new round nothing is drawn"


@pytest.mark.parametrize("held", [True, False])
def test_the_bar_says_whether_training_has_begun(tiny: RunConfig, held: bool, capsys: pytest.CaptureFixture) -> None:
    store = Store()
    with show_progress(store, [tiny], True), locks.hold(store.locks, [tiny.key] if held else []):
        time.sleep(1.5)
    last = re.split(r"[\r\n]+", capsys.readouterr().out.strip())[-1]
    assert last.startswith("1 run:" if held else "starting workers:")

"""What a run needs, and what is loaded of it: models, masks and histories."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dsdlib import ConfigError, RunConfig, data, load_history, load_masks, load_model, sweep
from dsdlib.engine.build import build
from dsdlib.pruning import prunable
from dsdlib.study.files import read_rows, write_rows
from dsdlib.study.runs import kept
from dsdlib.study.store import Store, best_round


def swept(*configs: RunConfig, keep: Any = (), **options: Any) -> pd.DataFrame:
    return sweep(configs, keep=keep, progress=False, **options)


# Models and masks ---------------------------------------------------------------------------------------------------


def test_a_round_that_was_not_kept_is_an_error(run: RunConfig, finished: Path) -> None:
    gone = min(set(range(5)) - kept(Store(finished), run))
    with pytest.raises(FileNotFoundError, match=f"round {gone} of run {run.key}: weights are kept of rounds \\[0, "):
        load_model(run, gone, finished)


@pytest.mark.parametrize("round_", ["bset", 99, -1])
def test_a_round_that_cannot_be_is_refused(round_: int | str, run: RunConfig, finished: Path) -> None:
    with pytest.raises(ConfigError, match="unknown; allowed: dense, best, 0 to"):
        load_model(run, round_, finished)


@pytest.mark.parametrize("round_", ["dense", "best", 4])
def test_a_loaded_model_has_the_tables_accuracy_and_its_masks_the_tables_sparsity(
    round_: str | int, run: RunConfig, finished: Path
) -> None:
    rows = Store(finished).rows(run)
    row = rows[{"dense": 0, "best": best_round(rows)}.get(round_, round_)]
    network, masks = load_model(run, round_, finished), load_masks(run, round_, finished)
    dataset = data.load("digits")
    right = network(dataset.test_x).argmax(1) == dataset.test_y
    assert right.double().mean().item() == pytest.approx(row["test_accuracy"], abs=0.5 / len(right))
    parameters = dict(network.named_parameters())
    assert masks.keys() == {"1.weight", "3.weight"} and not network.training
    assert sum(int(mask.sum()) for mask in masks.values()) == row["remaining_weights"]
    assert all((parameters[name][~mask] == 0).all() for name, mask in masks.items())
    assert row["sparsity"] == 1 - row["remaining_weights"] / int(prunable(build(run), run.prunable).sum())


def test_a_run_that_is_not_there_is_named(tiny: RunConfig, results: Path) -> None:
    with pytest.raises(ConfigError, match=f"run {tiny.key} is not in {results}"):
        load_model(tiny)


# Sources: teachers and starts ---------------------------------------------------------------------------------------


def test_teachers_come_first_even_a_teachers_teacher(tiny: RunConfig) -> None:
    grandmother = tiny.vary(seed=1)
    mother = tiny.vary(seed=2, teacher=grandmother, teacher_round="best")
    child = tiny.vary(seed=3, teacher=mother, teacher_round=1)
    table = sweep([child], progress=False)
    assert table["key"].unique().tolist() == [child.key]
    assert [Store().rounds_done(run) for run in (grandmother, mother, child)] == [3, 3, 3]
    assert load_model(mother, 1)


def test_the_teachers_round_is_the_one_that_teaches(tiny: RunConfig) -> None:
    teacher = tiny.vary(seed=1)
    students = tiny.grid(teacher=[teacher], teacher_round=["dense", "best", 0, 1, 2])
    table = sweep(students, progress=False)
    dense, best, *numbered = (table.loc[table["key"] == s.key, "train_loss"].tolist() for s in students)
    assert dense == numbered[0] and best == numbered[best_round(Store().rows(teacher))]
    assert len({tuple(losses) for losses in numbered}) == 3


def test_a_finished_teacher_is_trained_again_when_the_round_that_teaches_was_not_kept(tiny: RunConfig) -> None:
    teacher = tiny.vary(seed=1, rounds=3)
    sweep([teacher], progress=False)
    gone = next(r for r in range(4) if not Store().tensor_file(teacher, r).exists())
    assert len(sweep([tiny.vary(teacher=teacher, teacher_round=gone)], progress=False)) == 3


def test_only_an_unfinished_student_needs_its_teacher(tiny: RunConfig, results: Path, alike: Any, stacks: list) -> None:
    grandmother, other = tiny.vary(seed=1), tiny.vary(seed=2)
    mother = tiny.vary(seed=3, teacher=grandmother)
    child, stepchild = tiny.vary(seed=4, teacher=mother), tiny.vary(seed=4, teacher=other)
    table = sweep([child, stepchild], progress=False)
    for teacher in (grandmother, mother, other):
        shutil.rmtree(results / teacher.key)
    stacks.clear()
    pd.testing.assert_frame_equal(sweep([child, stepchild], progress=False), table, check_exact=True)
    assert stacks == []
    assert not any((results / teacher.key).exists() for teacher in (grandmother, mother, other))
    late = stepchild.vary(seed=5)
    assert sweep([child, stepchild, late], progress=False)["key"].unique().tolist() == [
        run.key for run in (child, stepchild, late)
    ]
    assert stacks == [[other], [late]]  # no more than the unfinished student's own teacher, and that one first
    shutil.rmtree(results / child.key)
    alike(sweep([child], progress=False), table[table["key"] == child.key])
    assert stacks[2:] == [[grandmother], [mother], [child]]
    stacks.clear()
    shutil.rmtree(results / grandmother.key)
    sweep([child.vary(seed=6)], progress=False)
    assert stacks == [[child.vary(seed=6)]]  # a finished teacher needs none of its own


def test_a_start_is_trained_before_its_run_also_through_a_teachers_chain(tiny, stacks):
    grandmother = tiny.vary(seed=1)
    mother = tiny.vary(seed=2, start=grandmother, start_round=2)
    teacher = tiny.vary(seed=3, start=mother, teacher=grandmother, teacher_round=1)
    child = tiny.vary(seed=4, teacher=teacher, teacher_round="best", start=tiny.vary(seed=5), start_round="best")
    table = swept(child, keep=())
    order = [run for stack in stacks for run in stack]
    assert set(order) == {grandmother, mother, teacher, child, tiny.vary(seed=5)} and len(order) == 5
    assert order.index(grandmother) < order.index(mother) < order.index(teacher) < order.index(child)
    assert order[-1] == child and set(table["key"]) == {child.key}
    assert table["teacher_round"].tolist() == ["best"] * 3 and table["start"].tolist() == [child.start.key] * 3


def test_a_start_is_trained_again_when_the_round_that_is_wanted_was_not_kept(tiny, stacks):
    first = tiny.vary(rounds=4)
    swept(first, keep=())
    gone = next(r for r in range(9) if not Store().tensor_file(first, r).exists())
    stacks.clear()
    run = tiny.vary(start=first, start_round=gone)
    swept(run, keep=())
    assert stacks == [[first], [run]]


def test_a_finished_run_is_read_without_its_start(tiny, results, stacks, alike):
    run = tiny.vary(start=tiny, start_round=1)
    table = swept(run, keep=["history"])
    history = load_history([run])
    shutil.rmtree(results / tiny.key)
    stacks.clear()
    with warnings.catch_warnings(action="error"):
        pd.testing.assert_frame_equal(swept(run, keep=["history", "best", "dense"]), table, check_exact=True)
    alike(load_history([run]), history)
    assert stacks == [] and not (results / tiny.key).exists() and load_model(run, "best") and load_masks(run, 0)


# Histories ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [["history"], ["history", "dense"]])
def test_a_finished_run_is_trained_again_only_when_its_history_is_wanted_and_absent(tiny, keep, stacks, results, alike):
    runs = tiny.grid(seed=[0, 1])
    table = swept(*runs, keep=())
    for wanted in (runs[:1], runs):
        with pytest.raises(ConfigError, match=rf"run {wanted[-1].key}: its history is not in .*keep=\['history'\]"):
            load_history(wanted)
        stacks.clear()
        swept(*wanted, keep=keep)
        assert stacks == [[wanted[-1]]]
    stacks.clear()
    for again in (keep, (), ["history"]):
        alike(swept(*runs, keep=again), table)
    assert stacks == []
    assert load_history(runs).groupby(["key", "seed", "round"]).size().tolist() == [1] * 6
    unknown = tiny.vary(seed=7)
    with pytest.raises(ConfigError, match=f"run {unknown.key}: its history is not in"):
        load_history([*runs, unknown])
    assert not (results / unknown.key).exists()


DAMAGE = {
    "truncated": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "zeroed": lambda content: bytes(len(content)),
    "another file's": lambda content: b"PAR1" + content[4:200] + b"PAR1",
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_history_is_set_aside_and_the_run_trained_again(how, tiny, results, stacks, alike):
    table = swept(tiny, keep=["history"])
    history, file = load_history([tiny]), results / tiny.key / "history.parquet"
    file.write_bytes(DAMAGE[how](file.read_bytes()))
    damaged = file.read_bytes()
    with (
        pytest.warns(UserWarning, match=rf"run {tiny.key} has a damaged file: history\.parquet cannot be read"),
        pytest.raises(ConfigError, match=f"run {tiny.key}: its history is not in"),
    ):
        load_history([tiny])
    assert (results / f"{tiny.key}.history.parquet.damaged-1").read_bytes() == damaged and not file.exists()
    stacks.clear()
    alike(swept(tiny, keep=()), table)
    assert stacks == []  # it is not wanted
    alike(swept(tiny, keep=["history"]), table)
    assert stacks == [[tiny]]
    alike(load_history([tiny]), history)


CHANGES = {
    "first row absent": lambda rows: rows[1:],
    "one row absent": lambda rows: rows[:4] + rows[5:],
    "last row absent": lambda rows: rows[:-1],
    "last round absent": lambda rows: [row for row in rows if row["round"] < 2],
    "a row twice": lambda rows: [*rows[:4], rows[3], *rows[4:]],
    "last row twice": lambda rows: [*rows, rows[-1]],
    "another order": lambda rows: rows[::-1],
    "another run's": lambda rows: [row | {"key": "0123456789abcdef"} for row in rows],
    "other columns": lambda rows: [{"alpha": 0.5} for _ in rows],
    "no epochs": lambda rows: [{"round": row["round"]} for row in rows],
}


@pytest.mark.parametrize("retraining", [{}, {"retraining": "weight_rewinding", "rewind_iteration": 20}])
@pytest.mark.parametrize("how", CHANGES)
def test_a_history_with_other_rows_is_set_aside(how, retraining, tiny, results):
    run = tiny.vary(epochs=3, **retraining)
    swept(run, keep=["history"])
    file = results / run.key / "history.parquet"
    write_rows(file, CHANGES[how](read_rows(file)))
    with pytest.warns(UserWarning, match=rf"run {run.key} has a damaged file: history\.parquet"):
        assert Store(results).history(run) == []


def test_a_history_without_its_runs_key_is_read_as_earlier_versions_wrote_it(tiny, results, stacks, alike):
    run = tiny.vary(epochs=2)
    swept(run, keep=["history"])
    history, file = load_history([run]), results / run.key / "history.parquet"
    write_rows(file, [{name: value for name, value in row.items() if name != "key"} for row in read_rows(file)])
    stacks.clear()
    swept(run, keep=["history"])
    alike(load_history([run]), history)
    assert stacks == []

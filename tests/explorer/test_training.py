"""Training in the background: the curve grows from the store, stopping keeps what is done, errors are shown."""

import asyncio
import time
from collections.abc import Callable

import pytest

from dsdlib import RunConfig, sweep
from dsdlib.explorer import Explorer
from dsdlib.explorer.form import with_seed
from dsdlib.explorer.runs import finished_runs
from dsdlib.explorer.settings import describe
from dsdlib.explorer.training import seconds
from dsdlib.study.files import write_rows
from dsdlib.study.runs import kept
from dsdlib.study.store import Store


def fill(explorer: Explorer, base: RunConfig, **values: object) -> None:
    explorer.form.copy(base)
    for name, value in values.items():
        getattr(explorer.form, name).value = value


def wait(holds: Callable[[], bool], poll: Callable[[], object] = lambda: None) -> None:
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end
        poll()
        time.sleep(0.05)


def test_the_form_describes_the_run_with_its_changes(explorer: Explorer, base: RunConfig) -> None:
    fill(explorer, base, noise_rate=0.35, rounds=3, seeds=2, others="criterion: random, lr: 1e-1")
    changed = base.vary(noise_rate=0.35, rounds=3, criterion="random", lr=0.1)
    assert explorer.form.configs() == [changed.vary(seed=0), changed.vary(seed=1)]


def test_milestones_go_with_the_epochs_and_arguments_with_the_model(explorer: Explorer) -> None:
    fill(explorer, RunConfig(model_args={"width": 0.5}), epochs=10, model="mlp", seeds=1)
    assert explorer.form.configs() == [RunConfig(epochs=10, milestones=(7, 9), model="mlp", model_args={})]
    fill(explorer, RunConfig(), epochs=100, others="milestones: [3]", seeds=1)
    assert explorer.form.configs() == [RunConfig(epochs=100, milestones=(3,))]


def test_a_teacher_has_the_seed_of_its_student() -> None:
    run = RunConfig(seed=2, teacher=RunConfig(seed=2, weight_decay=0.1), start=RunConfig(seed=5))
    moved = with_seed(run, 4)
    assert (moved.seed, moved.teacher.seed, moved.teacher.weight_decay, moved.start.seed) == (4, 4, 0.1, 5)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("others", "colour: 3", "unknown field 'colour'"),
        ("others", "lr: [", "write name: value"),
        ("others", "lr: fast", "lr = 'fast'"),
    ],
)
def test_an_impossible_run_is_refused_where_it_is_written(
    explorer: Explorer, base: RunConfig, field: str, value: str, message: str
) -> None:
    fill(explorer, base, **{field: value})
    assert message in explorer.form.says.value.replace("&#x27;", "'") and "wrong" in explorer.form.says.value
    explorer.form.start.click()
    assert explorer.form.training is None and not explorer.form.start.disabled


def test_the_curve_grows_and_the_finished_runs_become_a_choice(
    explorer: Explorer, store: Store, base: RunConfig, package: None
) -> None:
    new = base.vary(noise_rate=0.35)
    fill(explorer, base, noise_rate=0.35, seeds=2)
    explorer.form.start.click()
    assert explorer.form.start.disabled and not explorer.form.stop.disabled
    assert "Starting the training process" in explorer.form.says.value and explorer.configs[0] == new
    seen = []

    def poll() -> None:
        explorer.form.poll()
        seen.append(len(explorer.shown))

    wait(lambda: not explorer.form.start.disabled, poll)
    assert seen == sorted(seen) and seen[-1] == 10 and "All 10 rounds" in explorer.form.says.value
    assert explorer.trained == [] and explorer.controls.choice == describe(new)
    table = sweep([new, new.vary(seed=1)], results=store.root, progress=False)
    assert explorer.figure.line.get_ydata() == pytest.approx(table.groupby("round")["test_accuracy"].mean().to_numpy())
    assert store.history(new) and kept(store, new) >= {0, 2, 4}


def test_a_half_trained_curve_is_drawn(explorer: Explorer, store: Store, base: RunConfig) -> None:
    new = base.vary(noise_rate=0.45)
    explorer._growing([new])
    assert "No round is finished yet" in explorer.title.value
    sweep(new, results=store.root, progress=False)
    write_rows(store.folder(new) / "rounds.parquet", store.rows(new)[:3])
    explorer._growing([new])
    assert explorer.figure.line.get_ydata().size == 3 and explorer.figure.line.get_ydata()[0] > 0
    assert [value for _, value in explorer.cursor.options] == [0, 1, 2]


def test_stopping_keeps_what_is_done_and_training_again_resumes(
    explorer: Explorer, store: Store, base: RunConfig, package: None
) -> None:
    fill(explorer, base, noise_rate=0.3, rounds=20, epochs=100, seeds=1)
    explorer.form.start.click()
    wait(lambda: explorer.form.training.rounds[0] >= 2)
    explorer.form.stop.click()
    done = explorer.form.training.rounds[0]
    assert not explorer.form.training.running and 2 <= done < 21
    explorer.form.poll()  # as the task that watches the training does once more
    assert f"{done} of 21 rounds are in the store" in explorer.form.says.value
    assert len(explorer.shown) == done, "the unfinished curve stays"
    explorer.form.start.click()
    wait(lambda: explorer.form.training.rounds[0] > done)
    explorer.form.training.stop()
    (run,) = explorer.form.training.runs
    assert len(store.provenance(run)) == 2 and len(store.rows(run)) > done


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(("field", "value"), [("model", "lenet"), ("dataset", "nowhere:load")])
def test_absent_data_and_models_are_named(explorer: Explorer, base: RunConfig, field: str, value: str) -> None:
    fill(explorer, base, **{field: value})
    explorer.form.start.click()
    wait(lambda: not explorer.form.start.disabled, explorer.form.poll)
    assert f"{field} = &#x27;{value}&#x27;" in explorer.form.says.value and "wrong" in explorer.form.says.value


def test_an_error_of_the_process_is_shown(explorer: Explorer, base: RunConfig, package: None) -> None:
    fill(explorer, base, noise_rate=0.3, seeds=1)
    explorer.store.locks.rename(explorer.store.root / "locks")
    explorer.store.locks.write_text("a file where the folder of the locks should be")
    explorer.form.start.click()
    wait(lambda: not explorer.form.start.disabled, explorer.form.poll)
    assert "ConfigError" in explorer.form.says.value and "cannot be written" in explorer.form.says.value


def test_in_a_running_loop_the_store_is_watched(explorer: Explorer, base: RunConfig, package: None) -> None:
    fill(explorer, base, noise_rate=0.25, seeds=1, keep=False)

    async def train() -> None:
        explorer.form.start.click()
        while explorer.form.start.disabled:
            await asyncio.sleep(0.1)

    asyncio.run(asyncio.wait_for(train(), 120))
    assert explorer.controls.choice == describe(base.vary(noise_rate=0.25))


def test_the_forecast_is_in_proportion_to_what_was_measured(store: Store, base: RunConfig) -> None:
    finished = finished_runs(store)
    known = next(c for c in finished.configs.values() if c.model == base.model)
    spent = finished.rows([known.key])["seconds"].sum()
    assert seconds([known], finished) == pytest.approx(spent)
    assert seconds([known, known.vary(seed=8)], finished) == pytest.approx(2 * spent)
    longer = known.vary(retrain_epochs=4)  # 2 + 4·4 epochs instead of 5·2
    assert seconds([longer], finished) == pytest.approx(1.8 * spent)
    assert seconds([known], type(finished)()) is None
    assert seconds([known.vary(model_args={"depth": 2, "width": 8})], finished) is None

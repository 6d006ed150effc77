"""Choices of a run: where weights compete and of which network, by what, from what it begins, how long it is retrained;
and what is measured of it on the way. Each against plain PyTorch, brute force, or the same run without the choice."""

import json
import random
import shutil
import sys
import warnings
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from dsdlib import ConfigError, RunConfig, load_history, load_masks, load_model, sweep
from dsdlib.engine.build import build
from dsdlib.engine.loop import train
from dsdlib.engine.rounds import measure_epoch, run_rounds
from dsdlib.engine.stack import Stack
from dsdlib.study.store import Store, best_round

pytestmark = pytest.mark.usefixtures("one_thread")
LENET = RunConfig(epochs=2, milestones=(1,), rounds=2, noise_rate=0.2, model_args={"width": 0.1})
VGG = LENET.vary(model="vgg_like", model_args={"depth": 2, "width": 4}, batch_size=256)
# Layers of 19,200 and 30,000 weights, of which 9% and then 0.8% are left: they are trained by sparse products.
THIN = LENET.vary(model_args={}, epochs=1, milestones=(), amount=0.91, batch_size=256)
ALL = range(9)  # rounds whose weights are to be kept
SHORT = LENET.vary(epochs=1, milestones=())
MEASURES = [f"{part}_{what}" for part in ("train", "validation", "test") for what in ("accuracy", "loss", "ece")]


TINIEST = """
from torch import nn


def plain(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, classes))


def normed(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8, affine=False), nn.Linear(8, classes))
"""


class Stop(BaseException):
    """In place of a killed process: nothing catches it."""


@pytest.fixture
def tiniest(tmp_path, monkeypatch):
    """A user's own module."""
    (tmp_path / "tiniest.py").write_text(TINIEST)
    monkeypatch.delitem(sys.modules, "tiniest", raising=False)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def begun(monkeypatch):
    """What every training from now on begins with: weights, masks, buffers, recipe and number of steps."""
    calls, real = [], train

    def spy(network, weights, masks, data, recipe, *more):
        calls.append({"weights": weights * masks, "masks": masks, "buffers": network.buffers(), "recipe": recipe})
        calls[-1]["start"] = recipe.first_step
        return real(network, weights, masks, data, recipe, *more)

    monkeypatch.setattr("dsdlib.engine.stack.train", spy)
    return calls


@pytest.fixture
def stacks(monkeypatch):
    """The stacks that are trained from now on, each as its runs."""
    trained, real = [], run_rounds

    def counting(stack, *more):
        trained.append(list(stack.configs))
        real(stack, *more)

    monkeypatch.setattr("dsdlib.study.worker.run_rounds", counting)
    return trained


def swept(*configs, keep=ALL, **options):
    return sweep(configs, keep=keep, progress=False, **options)


def alike(one, other):
    """The same numbers to the last bit, in whatever order; only the time may differ."""
    tables = [t.drop(columns="seconds", errors="ignore") for t in (one, other)]
    keys = [name for name in ("key", "round", "epoch") if name in one]
    pd.testing.assert_frame_equal(
        *(t.sort_values(keys, ignore_index=True) for t in tables), check_exact=True, check_like=True, check_dtype=False
    )


def same_weights(config, one, other):
    """Of all rounds, weights, masks and BatchNorm's statistics."""
    for round_ in range(config.rounds + 1):
        a, b = (Store(root).tensors(config, round_) for root in (one, other))
        assert a.keys() == b.keys() and all(torch.equal(part, b[name]) for name, part in a.items())


def stop_after(rounds, root, *configs, keep=ALL):
    """A sweep that is killed when so many rounds of a run have been saved."""
    save = Store.save_round

    def save_or_stop(store, config, rows, *more):
        if len(rows) > rounds:
            raise Stop
        save(store, config, rows, *more)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Store, "save_round", save_or_stop)
        swept(*configs, keep=keep, results=root)


def vector(network):
    return parameters_to_vector(network.parameters()).detach().clone()


def whole_mask(config, round_, root=None):
    """A run's mask as one vector of all its parameters, and which of them are prunable."""
    masks, network = load_masks(config, round_, root), build(config)
    parts = [masks.get(name, torch.ones_like(p)) for name, p in network.named_parameters()]
    among = [torch.full((p.numel(),), name in masks) for name, p in network.named_parameters()]
    return torch.cat([part.flatten().float() for part in parts]), torch.cat(among)


def highest(scores, among, keep):
    """The mask that keeps so many of the highest scores among those, by Python's own sort."""
    candidates = sorted(among.nonzero().squeeze(1).tolist(), key=scores.tolist().__getitem__)
    mask = torch.ones_like(scores)
    mask[candidates[: len(candidates) - keep]] = 0
    return mask


# Stopped and resumed -----------------------------------------------------------------------------------------------

ONE_SHOT = SHORT.vary(schedule="one_shot")
ONE_SHOT_VGG = VGG.vary(schedule="one_shot", epochs=1, milestones=())
RESUMED = {
    "one shot": ONE_SHOT,
    "gradient": ONE_SHOT.vary(criterion="gradient", scope="layer"),
    "rewound": ONE_SHOT.vary(retraining="weight_rewinding", rewind_iteration=5),
    "thin": THIN.vary(schedule="one_shot"),
    "vgg": ONE_SHOT_VGG.vary(criterion="random"),
    "vgg rewound": ONE_SHOT_VGG.vary(retraining="weight_rewinding", rewind_iteration=3),
    "iterative Adam": LENET.vary(optimizer="adam", lr=0.001, retrain_epochs=3),
    "iterative thin": THIN.vary(scope="layer", criterion="random"),
    "iterative vgg": VGG.vary(epochs=1, milestones=(), criterion="gradient", scope="layer"),
}


@pytest.mark.parametrize("run", RESUMED.values(), ids=RESUMED)
def test_stopped_in_every_round_a_run_goes_on_to_the_same_bits_and_the_same_history(run, begun, tmp_path):
    keep, root = [*ALL, "history"], tmp_path / "stopped"
    whole = swept(run, keep=keep, results=tmp_path / "whole")
    for rounds in (1, 2):
        stop_after(rounds, root, run, keep=keep)
        assert Store(root).rounds_done(run) == rounds
    alike(swept(run, keep=keep, results=root), whole)
    assert len(begun) == 3 + 2 + 2 + 1  # no round that was saved is trained again
    same_weights(run, root, tmp_path / "whole")
    alike(load_history([run], root), load_history([run], tmp_path / "whole"))


def test_a_stopped_one_shot_run_goes_on_where_only_some_weights_were_kept(begun, tmp_path):
    run = LENET.vary(schedule="one_shot", rounds=4)
    whole = swept(run, keep=(), results=tmp_path / "whole")
    stop_after(4, tmp_path / "stopped", run, keep=())
    assert len(list((tmp_path / "stopped" / run.key).glob("round_*"))) < 4
    begun.clear()
    alike(swept(run, keep=(), results=tmp_path / "stopped"), whole)
    assert len(begun) == 1  # the last round alone


# In any company ---------------------------------------------------------------------------------------------------


def test_runs_that_begin_with_anothers_weights_share_a_stack_each_with_its_own(stacks, tmp_path):
    starts = LENET.grid(seed=[5, 6])
    runs = [
        LENET.vary(start=start, start_round=round_, schedule=schedule, criterion=criterion)
        for start, round_, schedule, criterion in (
            (starts[0], 0, "iterative", "magnitude"),
            (starts[0], 2, "one_shot", "magnitude"),
            (starts[1], "best", "iterative", "random"),
            (starts[1], 1, "one_shot", "gradient"),
        )
    ]
    together = swept(*runs, LENET, results=tmp_path / "together")
    assert sorted(map(len, stacks)) == [3, 4] and runs in stacks  # those without a start apart
    for run in runs:
        alike(swept(run, results=tmp_path / "alone"), together[together["key"] == run.key])
        same_weights(run, tmp_path / "alone", tmp_path / "together")


# From what --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "start_round"), [(LENET, "dense"), (LENET, "best"), (LENET, 1), (VGG, "best"), (VGG, 2)]
)
def test_a_run_with_a_start_begins_with_that_rounds_weights_and_trains_them_all(config, start_round, begun):
    first = config.vary(amount=0.7)
    run = first.vary(start=first, start_round=start_round, rounds=1)
    swept(first)
    begun.clear()
    table = swept(run)
    number = {"dense": 0, "best": best_round(Store().rows(first))}.get(start_round, start_round)
    start, mask = load_model(first, number), whole_mask(first, number)[0]
    assert torch.equal(begun[0]["weights"][0], vector(start))
    assert begun[0]["masks"].all() and begun[0]["start"] == 0
    assert (vector(start)[mask == 0] == 0).all() and (mask == 0).any() == (number > 0)
    for name, buffer in start.named_buffers():
        assert torch.equal(begun[0]["buffers"][name], buffer)
    dense = vector(load_model(run, 0))
    assert (dense[mask == 1] != vector(start)[mask == 1]).float().mean() > 0.8
    if number > 0:
        assert (dense[mask == 0] != 0).float().mean() > 0.5  # some pixels are always black, some neurons dead
    initial = vector(build(run))
    assert table["learning_distance"][0] == pytest.approx((dense - initial).norm().item(), rel=1e-5)
    assert table["sparsity"].tolist() == [0, pytest.approx(0.7, abs=1e-3)]
    among = whole_mask(run, 1)[1]
    assert torch.equal(whole_mask(run, 1)[0], highest(dense.abs(), among, table["remaining_weights"][1]))
    assert table["start"].tolist() == [first.key] * 2 and table["start_round"].tolist() == [str(start_round)] * 2


@pytest.mark.parametrize(("config", "steps"), [(LENET, 0), (LENET, 3), (VGG, 0), (VGG, 3)])
def test_a_run_with_a_start_rewinds_to_the_start_or_to_so_many_steps_from_it_even_when_resumed(
    config, steps, begun, tmp_path
):
    config = config.vary(epochs=1, milestones=(), schedule="one_shot")
    first = config.vary(amount=0.7, rounds=1)
    run = config.vary(start=first, start_round=1, retraining="weight_rewinding", rewind_iteration=steps)
    whole = swept(run, results=tmp_path / "whole")
    start = load_model(first, 1, tmp_path / "whole")
    rewound = begun[-1]
    mask = whole_mask(run, 2, tmp_path / "whole")[0]
    assert torch.equal(rewound["weights"][0], vector(start) * mask) is (steps == 0)
    assert (rewound["weights"][0] - vector(start) * mask).abs().max() < 0.5 and rewound["start"] == steps
    for name, buffer in start.named_buffers():
        assert torch.equal(rewound["buffers"][name], buffer) is (steps == 0)
    root = tmp_path / "stopped"
    swept(first, results=root)
    stop_after(1, root, run)
    alike(swept(run, results=root), whole)
    same_weights(run, root, tmp_path / "whole")


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
    gone = next(r for r in ALL if not Store().tensor_file(first, r).exists())
    stacks.clear()
    run = tiny.vary(start=first, start_round=gone)
    swept(run, keep=())
    assert stacks == [[first], [run]]


def test_a_finished_run_is_read_without_its_start(tiny, results, stacks):
    run = tiny.vary(start=tiny, start_round=1)
    table = swept(run, keep=["history"])
    history = load_history([run])
    shutil.rmtree(results / tiny.key)
    stacks.clear()
    with warnings.catch_warnings(action="error"):
        pd.testing.assert_frame_equal(swept(run, keep=["history", "best", "dense"]), table, check_exact=True)
    alike(load_history([run]), history)
    assert stacks == [] and not (results / tiny.key).exists() and load_model(run, "best") and load_masks(run, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": {"model": "mlp", "rounds": 1}}, "start: run {key} is another network, mlp; its weights do not fit"),
        ({"start": {"model": "vgg_like", "model_args": {"depth": 2, "width": 2}}}, "start: run {key} is .* vgg_like"),
        ({"start": {"model": "mlp", "model_args": {"depth": 1, "width": 9}}}, "start: run {key} is another network"),
        ({"model": "tiniest:normed", "model_args": {}, "start": {"model": "tiniest:plain"}}, "start: run {key} is"),
        ({"start": {"dataset": "tiniest:nonesuch"}}, "tiniest:nonesuch"),
    ],
)
def test_a_start_of_another_shape_is_refused_by_name_before_any_training(
    changes, message, tiny, results, stacks, tiniest
):
    run = tiny.vary(**changes)
    with pytest.raises(ConfigError, match=message.format(key=run.start.key)):
        swept(run, tiny, keep=())
    assert stacks == [] and [path.name for path in results.rglob("*")] == [".locks"]


def test_a_start_needs_the_round_and_the_validation_data_that_are_asked_of_it(tiny):
    with pytest.raises(ConfigError, match="start_round = 3: the start has rounds 0 to 2"):
        tiny.vary(start=tiny, start_round=3)
    with pytest.raises(ConfigError, match=r"start_round = 'best': .*the start has none"):
        tiny.vary(start=tiny.vary(validation_fraction=0), start_round="best")
    assert tiny.vary(start=tiny, start_round=2).key != tiny.vary(start=tiny, start_round=1).key


# How long, and by which optimiser ---------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [(10, 3), (3, 10)], ids=["shorter", "longer"])
def test_milestones_beyond_the_shorter_of_both_trainings_are_refused(epochs):
    both = {"epochs": epochs[0], "retrain_epochs": epochs[1]}
    for milestones in ((3,), (1, 5)):
        with pytest.raises(ConfigError, match=rf"milestones = \[{', '.join(map(str, milestones))}\]: .*= 2$"):
            RunConfig(**both, milestones=milestones)
    run = RunConfig(**both, milestones=(1, 2))
    assert [run.epochs_of(round_) for round_ in (0, 1, 2)] == [epochs[0], epochs[1], epochs[1]]


# After every epoch ------------------------------------------------------------------------------------------------

WATCHED = {
    "lenet": LENET.vary(scope="layer", schedule="one_shot", retrain_epochs=3),
    "rewound": LENET.vary(retraining="weight_rewinding", rewind_iteration=20),
    "thin": THIN.vary(epochs=2),
    "thin Adam": THIN.vary(epochs=2, optimizer="adam", lr=0.002, augment=True),
    "no validation": LENET.vary(validation_fraction=0),
    "vgg": VGG,
    "vgg augmented": VGG.vary(augment=True, epochs=1, milestones=(), retrain_epochs=2),
    "vgg Adam": VGG.vary(optimizer="adam", lr=0.002, retraining="weight_rewinding", rewind_iteration=3),
}


@pytest.mark.parametrize("config", WATCHED.values(), ids=WATCHED)
def test_a_history_changes_no_number_and_its_last_epochs_are_the_rows_of_the_table(config, tmp_path):
    unseen = swept(config, results=tmp_path / "unseen")
    table = swept(config, keep=[*ALL, "history"], results=tmp_path / "seen")
    alike(table, unseen)
    same_weights(config, tmp_path / "seen", tmp_path / "unseen")
    history = load_history([config], tmp_path / "seen")
    first = config.rewind_iteration // -(-1037 // config.batch_size)
    epochs = [(r, e) for r in range(3) for e in range(first if r else 0, config.epochs_of(r))]
    assert list(zip(history["round"], history["epoch"], strict=True)) == epochs
    assert history.columns.tolist() == ["key", "seed", "round", "epoch", *MEASURES]
    last = history.groupby("round", sort=True).nth(-1).reset_index(drop=True)
    thin = {"rtol": 1e-5, "atol": 1 / 500} if config.key in (WATCHED["thin"].key, WATCHED["thin Adam"].key) else None
    how = thin or {"check_exact": True}  # of a thin run, the history is that of what is left
    pd.testing.assert_frame_equal(last[MEASURES], table[MEASURES], check_dtype=False, **how)
    assert history["train_loss"].is_unique


def test_a_histories_rows_are_the_plain_modules_measures_after_so_many_epochs():
    run = VGG.vary(epochs=3, milestones=(), rounds=0)
    swept(run, keep=["history"])
    history = load_history([run])
    for epoch in range(3):  # without milestones, a shorter training is the beginning of a longer one
        shorter = swept(run.vary(epochs=epoch + 1))
        assert history.loc[epoch, MEASURES].tolist() == shorter.loc[0, MEASURES].tolist()


@pytest.mark.parametrize("keep", [["history"], ["history", "dense"]])
def test_a_finished_run_is_trained_again_only_when_its_history_is_wanted_and_absent(tiny, keep, stacks, results):
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


def test_only_those_who_are_asked_for_keep_a_history_whoever_shares_their_stack(tiny, results, stacks, tmp_path):
    run, other = tiny.vary(start=tiny.vary(seed=1), teacher=tiny.vary(seed=2)), tiny.vary(seed=3)
    swept(run, other, keep=["history"])
    assert {path.parent.name for path in results.rglob("history.parquet")} == {run.key, other.key}
    assert stacks[0] == [tiny.vary(seed=1), tiny.vary(seed=2), other]
    swept(other, keep=["history"], results=tmp_path / "alone")
    alike(load_history([other]), load_history([other], tmp_path / "alone"))


def test_a_stack_that_the_memory_does_not_hold_in_the_midst_of_a_round_has_the_same_history(tiny, tmp_path):
    runs, real = tiny.vary(epochs=2).grid(seed=[0, 1, 2]), measure_epoch
    whole = swept(*runs, keep=["history"], results=tmp_path / "whole")

    def full(stack, numbers, weights):
        if len(stack.configs) == 3 and stack.seen == 3:  # after the first epoch of round 1
            raise MemoryError
        stack.seen += 1
        return real(stack, numbers, weights)

    with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match="a stack of 3 runs: it is halved"):
        patch.setattr(Stack, "seen", 0, raising=False)
        patch.setattr("dsdlib.engine.rounds.measure_epoch", full)
        alike(swept(*runs, keep=["history"]), whole)
    alike(load_history(runs), load_history(runs, tmp_path / "whole"))


def test_a_run_begun_with_a_history_goes_on_with_it_whoever_asks(tiny, tmp_path):
    run = tiny.vary(rounds=3, epochs=2)
    whole = swept(run, keep=["history"], results=tmp_path / "whole")
    stop_after(2, tmp_path / "stopped", run, keep=["history"])
    assert len(load_history([run], tmp_path / "stopped")) == 4
    alike(swept(run, keep=(), results=tmp_path / "stopped"), whole)
    alike(load_history([run], tmp_path / "stopped"), load_history([run], tmp_path / "whole"))


def test_a_run_begun_without_a_history_is_trained_again_for_it(tiny, tmp_path):
    run = tiny.vary(rounds=3, epochs=2)
    whole = swept(run, keep=["history"], results=tmp_path / "whole")
    stop_after(2, tmp_path / "stopped", run, keep=())
    alike(swept(run, keep=["history"], results=tmp_path / "stopped"), whole)
    alike(load_history([run], tmp_path / "stopped"), load_history([run], tmp_path / "whole"))


DAMAGE = {
    "truncated": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "zeroed": lambda content: bytes(len(content)),
    "another file's": lambda content: b"PAR1" + content[4:200] + b"PAR1",
    "missing": None,
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_history_is_noticed_and_the_run_trained_again(how, tiny, results, stacks):
    table = swept(tiny, keep=["history"])
    history, file = load_history([tiny]), results / tiny.key / "history.parquet"
    if DAMAGE[how]:
        file.write_bytes(DAMAGE[how](file.read_bytes()))
    else:
        file.unlink()
    with pytest.raises(ConfigError, match=f"run {tiny.key}: its history is not in"):
        load_history([tiny])
    stacks.clear()
    alike(swept(tiny, keep=()), table)
    assert stacks == []  # nobody asks for it
    alike(swept(tiny, keep=["history"]), table)
    assert stacks == [[tiny]]
    alike(load_history([tiny]), history)


def test_no_flipped_bit_of_a_history_goes_unnoticed_that_changes_a_number(tiny, results):
    run = tiny.vary(epochs=2)
    swept(run, keep=["history"])
    store, rng, file = Store(results), random.Random(0), results / run.key / "history.parquet"
    content, rows, noticed = file.read_bytes(), store.history(run), 0
    for position in rng.sample(range(len(content)), 250):
        flipped = bytes([content[position] ^ 1 << rng.randrange(8)])
        file.write_bytes(content[:position] + flipped + content[position + 1 :])
        read = store.history(run)
        noticed += not read
        assert not read or [row.keys() for row in read] == [row.keys() for row in rows]
        for row, written in zip(read, rows, strict=bool(read)):
            assert all(value == written[name] for name, value in row.items() if isinstance(value, int | float))
    assert noticed > 50


def test_a_diverging_run_has_a_history_too_and_harms_no_partners(tiny, tmp_path):
    wild, tame = runs = tiny.vary(epochs=2, rounds=1).grid(lr=[1e12, 0.05])
    with pytest.warns(UserWarning, match=f"run {wild.key} diverged"):
        table = swept(*runs, keep=["history"])
    swept(tame, keep=["history"], results=tmp_path / "tame")
    alike(load_history([tame]), load_history([tame], tmp_path / "tame"))
    last = load_history([wild]).groupby("round").nth(-1).reset_index(drop=True)
    rows = table.loc[table["key"] == wild.key, MEASURES].reset_index(drop=True)
    pd.testing.assert_frame_equal(last[MEASURES], rows, check_exact=True, check_dtype=False)


def test_milestones_are_refused_by_the_field_that_limits_them() -> None:
    with pytest.raises(ConfigError, match="lie between 1 and retrain_epochs − 1 = 2"):
        RunConfig(epochs=10, retrain_epochs=3, milestones=[5])


def again(results):
    return [path.name for path in (results / ".again").iterdir() if path.name != ".locks"]


def test_a_complete_run_stays_as_it_is_until_it_has_been_trained_again(tiny, results, monkeypatch):
    """Another notebook may be reading it; what was kept of it before is kept again."""
    run = tiny.vary(rounds=3)
    table, store = swept(run, keep=[1, "history"]), Store(results)
    history, seen = load_history([run]), []
    real = Store.save_round

    def watched(self, *arguments):
        seen.append((len(store.rows(run)), store.tensors(run, 1).keys(), len(store.history(run))))
        return real(self, *arguments)

    monkeypatch.setattr(Store, "save_round", watched)
    alike(swept(run, keep=[2]), table)
    assert len(seen) == 4 and {(rows, epochs) for rows, _, epochs in seen} == {(4, 4)}
    assert {1, 2} <= store.kept(run) and "history" in store.kept(run)
    alike(load_history([run]), history)
    assert again(results) == []


def test_a_run_stopped_while_it_is_trained_again_goes_on_and_keeps_the_old_one_meanwhile(tiny, results, stacks):
    run = tiny.vary(rounds=3)
    table = swept(run, keep=())
    stop_after(2, results, run, keep=[1])
    alike(swept(run, keep=()), table)  # nothing is wanted that it lacks
    stacks.clear()
    alike(swept(run, keep=[1]), table)
    assert 1 in Store(results).kept(run)


@pytest.mark.parametrize("moved", [0, 1, 3, 5])
def test_a_kill_while_a_run_takes_the_old_ones_place_loses_nothing(moved, tiny, results, stacks, monkeypatch):
    """Killed after so many of its files were moved."""
    run = tiny.vary(rounds=3)
    table = swept(run, keep=())
    real, done = Path.replace, []

    def replace(self, target):
        if self.parent.parent.name == ".again" and not self.name.endswith(".part"):
            if len(done) == moved:
                raise Stop
            done.append(self)
        return real(self, target)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Path, "replace", replace)
        swept(run, keep=[1, "history"])
    alike(sweep([run], progress=False), table)
    stacks.clear()
    alike(swept(run, keep=[1, "history"]), table)
    store = Store(results)
    assert {1, "history"} <= store.kept(run)
    assert len(load_history([run])) == 4
    assert load_model(run, 1) is not None


def test_what_was_begun_again_with_other_data_is_not_gone_on_with(tiny, results):
    run = tiny.vary(rounds=3)
    swept(run, keep=())
    stop_after(2, results, run, keep=[1])
    file = results / ".again" / run.key / "provenance.json"
    file.write_text(json.dumps([json.loads(file.read_text())[0] | {"data_sha256": "another"}]))
    with pytest.warns(UserWarning, match="data_sha256 is no longer what it was"):
        swept(run, keep=[1])
    assert 1 in Store(results).kept(run)


def test_a_run_that_goes_on_keeps_what_was_kept_of_it(tiny, results):
    run = tiny.vary(rounds=3)
    stop_after(3, results, run, keep=[1, "history"])
    swept(run, keep=())
    assert {1, "history"} <= Store(results).kept(run)

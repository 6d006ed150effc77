"""A worker's stacks: the same numbers in any company, killed and resumed, histories, and a memory that is too small."""

import random
import shutil
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from dsdlib import ConfigError, RunConfig, load_history, load_masks, load_model, sweep
from dsdlib.engine.build import build
from dsdlib.engine.rounds import measure_epoch
from dsdlib.engine.stack import Stack
from dsdlib.study.store import Store, best_round

LENET = RunConfig(epochs=2, milestones=(1,), rounds=2, noise_rate=0.2, model_args={"width": 0.1})


VGG = LENET.vary(model="vgg_like", model_args={"depth": 2, "width": 4}, batch_size=256)


# Layers of 19,200 and 30,000 weights, of which 9% and then 0.8% are left: they are trained by sparse products.
THIN = LENET.vary(model_args={}, epochs=1, milestones=(), amount=0.91, batch_size=256)


ALL = range(9)  # rounds whose weights are to be kept


MEASURES = [f"{part}_{what}" for part in ("train", "validation", "test") for what in ("accuracy", "loss", "ece")]


def swept(*configs, keep=ALL, **options):
    return sweep(configs, keep=keep, progress=False, **options)


def vector(network):
    return parameters_to_vector(network.parameters()).detach().clone()


# The same numbers in any company ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def company(tiny: RunConfig) -> list[RunConfig]:
    runs = tiny.grid(noise_rate=[0.0, 0.5], seed=[0, 1]) + tiny.grid(weight_decay=[0.0], lr=[0.01, 0.2])
    runs += tiny.grid(retraining=["weight_rewinding"], rewind_iteration=[5], seed=[0, 1])
    runs += tiny.grid(teacher=[tiny.vary(seed=9)], alpha=[0.3, 0.9])
    return [*runs, tiny.vary(rounds=1), tiny.vary(criterion="gradient"), tiny.vary(retraining="reinit")]


@pytest.fixture(scope="module")
def alone(company: list[RunConfig], tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Each run for itself, in a store of its own."""
    return pd.concat([sweep([run], results=tmp_path_factory.mktemp("alone"), progress=False) for run in company])


@pytest.mark.parametrize(("jobs", "stack_size"), [(1, 16), (1, 3), (2, 2), (-1, 16)])
def test_a_table_is_the_union_of_its_runs_alone(
    jobs: int, stack_size: int, company: list[RunConfig], alone: pd.DataFrame, alike: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("dsdlib.study.sweep.STACK_SIZE", stack_size)
    shuffled = random.Random(jobs).sample(company, len(company))
    table = sweep(shuffled, jobs=jobs, progress=False)
    assert list(table["key"].unique()) == [run.key for run in shuffled]
    alike(table, alone)


def test_a_diverging_run_is_named_and_harms_no_partner(tiny: RunConfig, tmp_path: Path, alike: Any) -> None:
    wild, *tame = runs = tiny.vary(rounds=0).grid(lr=[1e12, 0.05, 0.1])
    with pytest.warns(UserWarning) as warned:
        table = sweep(runs, progress=False)
    assert [str(w.message) for w in warned] == [f"run {wild.key} diverged in round 0 (lr = 1000000000000.0)"]
    alike(table[table["key"] != wild.key], sweep(tame, results=tmp_path / "tame", progress=False))
    assert (table["key"] == wild.key).sum() == 1


def test_runs_that_begin_with_anothers_weights_share_a_stack_each_with_its_own(stacks, tmp_path, alike, same_weights):
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


# Starts -------------------------------------------------------------------------------------------------------------


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
    config, steps, begun, tmp_path, alike, stop_after, same_weights
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


# After every epoch --------------------------------------------------------------------------------------------------


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
def test_a_history_changes_no_number_and_its_last_epochs_are_the_rows_of_the_table(
    config, tmp_path, alike, same_weights
):
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
    evaluated = MEASURES[3:]
    pd.testing.assert_frame_equal(last[evaluated], table[evaluated], check_dtype=False, **how)
    assert history["train_loss"].is_unique
    for round_, group in history.groupby("round"):
        best = table.loc[round_, ["best_epoch", "best_epoch_validation_accuracy", "best_epoch_test_accuracy"]].tolist()
        if config.validation_fraction:
            row = group.loc[group["validation_accuracy"].idxmax()]
            assert best == row[["epoch", "validation_accuracy", "test_accuracy"]].tolist()
        else:
            assert pd.isna(best).all()


def test_a_histories_rows_are_the_plain_modules_measures_after_so_many_epochs():
    run = VGG.vary(epochs=3, milestones=(), rounds=0)
    swept(run, keep=["history"])
    history = load_history([run])
    for epoch in range(3):  # without milestones, a shorter training is the beginning of a longer one
        shorter = swept(run.vary(epochs=epoch + 1))
        assert history.loc[epoch, MEASURES[3:]].tolist() == shorter.loc[0, MEASURES[3:]].tolist()


def test_only_those_who_are_asked_for_keep_a_history_whoever_shares_their_stack(tiny, results, stacks, tmp_path, alike):
    run, other = tiny.vary(start=tiny.vary(seed=1), teacher=tiny.vary(seed=2)), tiny.vary(seed=3)
    swept(run, other, keep=["history"])
    assert {path.parent.name for path in results.rglob("history.parquet")} == {run.key, other.key}
    assert stacks[0] == [tiny.vary(seed=1), tiny.vary(seed=2), other]
    swept(other, keep=["history"], results=tmp_path / "alone")
    alike(load_history([other]), load_history([other], tmp_path / "alone"))


def test_a_run_begun_with_a_history_goes_on_with_it_whoever_asks(tiny, tmp_path, alike, stop_after):
    run = tiny.vary(rounds=3, epochs=2)
    whole = swept(run, keep=["history"], results=tmp_path / "whole")
    stop_after(2, tmp_path / "stopped", run, keep=["history"])
    assert len(load_history([run], tmp_path / "stopped")) == 4
    alike(swept(run, keep=(), results=tmp_path / "stopped"), whole)
    alike(load_history([run], tmp_path / "stopped"), load_history([run], tmp_path / "whole"))


def test_a_run_begun_without_a_history_is_trained_again_for_it(tiny, tmp_path, alike, stop_after):
    run = tiny.vary(rounds=3, epochs=2)
    whole = swept(run, keep=["history"], results=tmp_path / "whole")
    stop_after(2, tmp_path / "stopped", run, keep=())
    alike(swept(run, keep=["history"], results=tmp_path / "stopped"), whole)
    alike(load_history([run], tmp_path / "stopped"), load_history([run], tmp_path / "whole"))


def test_a_diverging_run_has_a_history_too_and_harms_no_partners(tiny, tmp_path, alike):
    wild, tame = runs = tiny.vary(epochs=2, rounds=1).grid(lr=[1e12, 0.05])
    with pytest.warns(UserWarning, match=f"run {wild.key} diverged"):
        table = swept(*runs, keep=["history"])
    swept(tame, keep=["history"], results=tmp_path / "tame")
    alike(load_history([tame]), load_history([tame], tmp_path / "tame"))
    last = load_history([wild]).groupby("round").nth(-1).reset_index(drop=True)
    rows = table.loc[table["key"] == wild.key, MEASURES].reset_index(drop=True)
    pd.testing.assert_frame_equal(last[MEASURES], rows, check_exact=True, check_dtype=False)


# A memory that is too small -----------------------------------------------------------------------------------------


def test_a_stack_that_the_memory_does_not_hold_is_halved_and_the_runs_go_on(results, monkeypatch):
    runs = LENET.grid(seed=list(range(5)))
    expected = sweep(runs, progress=False)
    shutil.rmtree(results)
    real, sizes = Stack.advance, []

    def small(self, state, round_, *more):
        sizes.append(len(self.configs))
        if len(self.configs) > 2 and round_ == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, state, round_, *more)

    monkeypatch.setattr(Stack, "advance", small)
    with pytest.warns(UserWarning, match="no memory for a stack of [53] runs: it is halved"):
        table = sweep(runs, progress=False)
    assert max(sizes) == 5 and 2 in sizes and 1 in sizes
    columns = [name for name in table if name != "seconds"]
    assert table[columns].equals(expected[columns])


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no"), MemoryError(), RuntimeError("can't allocate memory")])
def test_a_run_too_large_for_the_memory_is_refused_by_name(error, monkeypatch):
    def full(self, state, round_, *more):
        raise error

    monkeypatch.setattr(Stack, "advance", full)
    with pytest.raises(ConfigError, match=f"run {LENET.key}: the memory of cpu does not hold it"):
        sweep([LENET], progress=False)


def test_another_runtime_error_is_not_taken_for_a_lack_of_memory(monkeypatch):
    def broken(self, state, round_, *more):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Stack, "advance", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"), warnings.catch_warnings():
        warnings.simplefilter("error")
        sweep(LENET.grid(seed=[0, 1]), progress=False)


def test_a_stack_that_the_memory_does_not_hold_in_the_midst_of_a_round_has_the_same_history(tiny, tmp_path, alike):
    runs, real = tiny.vary(epochs=2).grid(seed=[0, 1, 2]), measure_epoch
    whole = swept(*runs, keep=["history"], results=tmp_path / "whole")

    def full(stack, *more):
        if len(stack.configs) == 3 and stack.seen == 3:  # after the first epoch of round 1
            raise MemoryError
        stack.seen += 1
        return real(stack, *more)

    with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match="a stack of 3 runs: it is halved"):
        patch.setattr(Stack, "seen", 0, raising=False)
        patch.setattr("dsdlib.engine.rounds.measure_epoch", full)
        alike(swept(*runs, keep=["history"]), whole)
    alike(load_history(runs), load_history(runs, tmp_path / "whole"))

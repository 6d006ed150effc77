"""The conventional loop against the library, and what is made of timings. No test asserts a speed."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from dsdlib import ConfigError, RunConfig, data, reference
from dsdlib.engine.build import build, stack_shape, training_cost
from dsdlib.engine.device import PLAIN
from dsdlib.engine.stack import Stack, State
from dsdlib.noise import labels_for
from dsdlib.study import performance
from dsdlib.study.sweep import _stacks, _time

CPU = torch.device("cpu")
LENET = RunConfig(model_args={"width": 0.2}, epochs=3, milestones=(2,), rounds=4, amount=0.4, noise_rate=0.2)


@pytest.mark.parametrize("prunable", ["conv_and_linear", "all_but_last"])
def test_the_conventional_loop_learns_what_a_stack_learns(prunable: str) -> None:
    runs = LENET.vary(prunable=prunable).grid(seed=[3, 4])
    ours = pd.DataFrame(performance.together(runs, CPU)).set_index(["seed", "round"]).sort_index()
    theirs = pd.DataFrame([row for run in runs for row in reference.conventional(run, CPU)]).set_index(
        ["seed", "round"]
    )
    assert ours.index.equals(theirs.index) and ours["test_accuracy"].nunique() > 5
    np.testing.assert_allclose(ours["sparsity"], theirs["sparsity"])
    for part in ("train_accuracy", "test_accuracy"):
        gap = (ours[part] - theirs[part]).abs()
        assert gap.xs(0, level="round").max() <= 0.004  # rounding alone, up to the first pruning
        assert gap.max() <= 0.03


def test_the_conventional_loop_refuses_what_it_does_not_know() -> None:
    for change in ({"criterion": "random"}, {"retraining": "reinit"}, {"augment": True}, {"teacher": LENET}):
        with pytest.raises(ConfigError, match="magnitude and learning-rate rewinding alone"):
            reference.conventional(LENET.vary(**change), CPU)


def test_a_race_times_both_ways_in_turn_and_keeps_the_runs_that_both_have_trained() -> None:
    runs = LENET.vary(rounds=1).grid(seed=[0, 1])
    times, rounds = performance.race(runs, LENET.vary(rounds=1).grid(seed=[0, 1, 2]), 3, CPU)
    ways = ["conventional loop", "one stack", "sweep"]
    assert times["way"].tolist() == ways * 3 and (times["seconds"] > 0).all()
    assert rounds.groupby(["way", "seed"])["round"].apply(list).tolist() == [[0, 1]] * 4


def test_speed_up_is_the_mean_ratio_of_neighbours_and_needs_three_for_an_interval() -> None:
    times = pd.DataFrame(
        [
            {"way": way, "repeat": repeat, "seconds": seconds * (1 + 9 * (repeat == 1))}  # once, the machine was busy
            for repeat in range(4)
            for way, seconds in (("slow", 8.0 + repeat), ("fast", 2.0))
        ]
    )
    found = performance.speed_up(times, "slow", "fast")
    assert found.value == pytest.approx(np.mean([4.0, 4.5, 5.0, 5.5]))
    assert 4 <= found.low < found.value < found.high <= 5.5
    few = performance.speed_up(times[times["repeat"] < 2], "slow", "fast")
    assert few.value == pytest.approx(4.25) and math.isnan(few.low) and math.isnan(few.high)


def test_a_state_is_pruned_to_its_largest_weights() -> None:
    stack = Stack(LENET.grid(seed=[0, 1]), CPU)
    state = performance.pruned(stack, stack.fresh(), 0.1)
    kept = state.masks[:, stack.prunable] > 0
    assert (kept.sum(1) == round(0.1 * stack.remaining[0])).all()
    sizes = state.weights[:, stack.prunable].abs()
    for size, keep in zip(sizes, kept, strict=True):
        assert size[keep].min() >= size[~keep].max()


def test_an_epoch_more_is_the_difference_of_a_long_and_a_short_training(monkeypatch) -> None:
    stack, seen = Stack([LENET], CPU), []

    def pretend(network, weights, masks, lessons, recipe, generators, engine):
        seen.append((recipe.epochs, recipe.milestones, torch.get_num_threads()))

    monkeypatch.setattr(performance, "train", pretend)
    monkeypatch.setattr(performance, "timed", lambda work, device: (work(), (3.0 + 0.5 * seen[-1][0], None))[1])
    before = torch.get_num_threads()
    assert performance.epoch_seconds(stack, stack.fresh(), 4) == pytest.approx(0.5)
    assert seen == [(1, (), 1), (5, (), 1)] and torch.get_num_threads() == before


def test_timings_are_tidy_tables() -> None:
    sizes = performance.Bench(LENET, CPU, PLAIN, 1, 2).sizes([1, 3])
    assert sizes[["runs", "repeat"]].to_numpy().tolist() == [[1, 0], [1, 1], [3, 0], [3, 1]]
    weights = 4 * sum(p.numel() for p in build(LENET).parameters())
    assert (sizes["memory"] >= weights).all()
    thin = performance.Bench(LENET, CPU, PLAIN, 1, 2).densities(2, [1.0, 0.05])
    assert len(thin) == 2 * 2 * 2 and set(thin["way"]) == {"dense products", "what is left"}
    wide = performance.Bench(LENET, CPU, PLAIN, 1, 1).widths(1, [0.1, 0.2])
    assert wide["width"].tolist() == [0.1, 0.2]
    n = len(labels_for(LENET, data.load("digits")).train_rows)
    flops = 2 * n * (2 * 64 * 30 + 3 * 30 * 10 + 3 * 10 * 10)  # a multiply-add is two operations, a step three passes
    assert wide["rate"][0] * wide["seconds"][0] == pytest.approx(flops)


def test_both_ways_of_a_density_start_from_the_same_pruned_networks(monkeypatch) -> None:
    seen = []

    def watch(stack: Stack, state: State, epochs: int, engine) -> float:
        seen.append((engine.sparse, float(state.masks[:, stack.prunable].mean()), state.weights.sum().item()))
        return 1.0

    monkeypatch.setattr(performance, "epoch_seconds", watch)
    performance.Bench(LENET, CPU, PLAIN, 1, 1).densities(2, [0.5, 0.02])
    (dense, left), (thin_dense, thin_left) = seen[:2], seen[2:]
    assert [dense[0], left[0]] == [thin_dense[0], thin_left[0]] == [False, True]
    assert dense[1:] == left[1:] and thin_dense[1:] == thin_left[1:]
    assert dense[1] == pytest.approx(0.5, abs=1e-3) and thin_dense[1] == pytest.approx(0.02, abs=1e-3)


def test_the_machines_own_rate_counts_a_multiply_add_twice(monkeypatch) -> None:
    monkeypatch.setattr(performance, "timed", lambda work, device: (0.5, work()))
    assert performance.product_rate(CPU, size=100) == pytest.approx(2 * 100**3 / 0.5)


def spread(groups: list[list[RunConfig]], jobs: int, stack_size: int = 16) -> list[list[RunConfig]]:
    return _stacks([run for group in groups for run in group], jobs, stack_size)


def test_stacks_hold_every_run_once_and_only_runs_of_one_shape() -> None:
    groups = [LENET.vary(model_args={"width": w}).grid(seed=list(range(5))) for w in (0.1, 0.5)]
    vgg = RunConfig(model="vgg_like", model_args={"depth": 1, "width": 2}).grid(seed=[0, 1])
    for jobs, stack_size in ((1, 16), (2, 16), (3, 2)):
        stacks = spread([*groups, vgg], jobs, stack_size)
        assert sorted(run.key for stack in stacks for run in stack) == sorted(r.key for g in [*groups, vgg] for r in g)
        assert all(len({stack_shape(run) for run in stack}) == 1 for stack in stacks)
        assert max(map(len, stacks)) <= stack_size
        assert all(len(stack) == 1 for stack in stacks if stack[0].model == "vgg_like")
        lengths = [training_cost(stack[0]) * (len(stack) + 1) for stack in stacks]
        assert lengths == sorted(lengths, reverse=True)


def test_one_worker_gets_whole_stacks_and_several_get_equal_shares() -> None:
    runs = LENET.grid(seed=list(range(15)))
    assert [len(stack) for stack in spread([runs], 1)] == [15]
    assert [len(stack) for stack in spread([runs], 2)] == [8, 7]
    assert [len(stack) for stack in spread([runs], 1, 4)] == [4, 4, 4, 3]


@pytest.mark.parametrize(
    ("lengths", "workers", "time"), [([3, 2, 2], 2, 4), ([5.0], 3, 5), ([], 2, 0), ([1] * 5, 2, 3)]
)
def test_workers_take_the_next_piece_when_they_are_done(lengths: list[float], workers: int, time: float) -> None:
    assert _time(lengths, workers) == time

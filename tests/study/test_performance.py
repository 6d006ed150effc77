"""Timings, and what is made of them. No test asserts a speed."""

from collections.abc import Iterator

import pytest
import torch

from dsdlib import ConfigError, RunConfig, data
from dsdlib.engine.build import build
from dsdlib.engine.device import PLAIN
from dsdlib.engine.stack import Stack, State
from dsdlib.noise import labels_for
from dsdlib.study import performance

CPU = torch.device("cpu")
LENET = RunConfig(model_args={"width": 0.2}, epochs=3, milestones=(2,), rounds=4, amount=0.4, noise_rate=0.2)


@pytest.fixture(autouse=True)
def without_jax() -> Iterator[pytest.MonkeyPatch]:
    """As on a machine without JAX, whether it is installed here or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(performance, "find_spec", lambda name: None)
        yield patch


def test_a_race_times_both_ways_in_turn_and_keeps_the_runs_that_both_have_trained() -> None:
    times, rounds = performance.race(LENET.vary(rounds=1), 2, 3, CPU)
    ways = ["conventional loop", "one stack", "sweep"]
    assert times["way"].tolist() == ways * 3 and (times["seconds"] > 0).all()
    assert rounds.groupby(["way", "seed"])["round"].apply(list).tolist() == [[0, 1]] * 4


def test_jax_takes_part_where_it_is_installed_and_is_left_out_by_name_elsewhere(without_jax) -> None:
    without_jax.undo()
    pytest.importorskip("jax", reason="JAX is not installed: pip install dsdlib[bench]")
    times, rounds = performance.race(LENET.vary(rounds=1), 2, 1, CPU)
    assert times["way"].tolist() == ["conventional loop", "one stack", "JAX", "sweep"]
    first = rounds[rounds["round"] == 0].set_index("way")["train_accuracy"]
    assert first["JAX"] == pytest.approx(first["one stack"], abs=1e-3)
    bench = performance.Bench(LENET, CPU, PLAIN, 1, 1)
    assert set(bench.sizes([2])["way"]) == {"one stack", "JAX"}
    assert set(bench.densities(2, [0.05])["way"]) == {"dense products", "sparse products", "JAX"}


def test_why_jax_is_left_out(without_jax) -> None:
    assert "dsdlib[bench]" in performance.why_without_jax(LENET, CPU)
    without_jax.undo()
    pytest.importorskip("jax", reason="JAX is not installed: pip install dsdlib[bench]")
    assert performance.why_without_jax(LENET, CPU) == ""
    assert "Adam" in performance.why_without_jax(LENET.vary(optimizer="adam"), CPU)


def test_stacks_and_widths_that_cannot_be_timed_are_refused_beforehand() -> None:
    performance.check(RunConfig(), [1, 8], [0.5, 1.0])
    performance.check(RunConfig(model="vgg_like", model_args={"depth": 1}, rounds=2), [1], [2])
    with pytest.raises(ConfigError, match="runs, stack_sizes: 8 is too many: resnet20 has a stack to itself"):
        performance.check(RunConfig(model="resnet20", rounds=2), [1, 8], [4])
    with pytest.raises(ConfigError, match=r"model_args = \{'width': 2\}: resnet18 does not take them"):
        performance.check(RunConfig(model="resnet18", rounds=2), [1], [2])


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

    def pretend(network, weights, masks, data, recipe, generators, engine):
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
    assert len(thin) == 2 * 2 * 2 and set(thin["way"]) == {"dense products", "sparse products"}
    wide = performance.Bench(LENET, CPU, PLAIN, 1, 1).widths(1, [0.1, 0.2])
    assert wide["width"].tolist() == [0.1, 0.2]
    n = len(labels_for(LENET, data.load("digits")).train_rows)
    flops = 2 * n * (2 * 64 * 30 + 3 * 30 * 10 + 3 * 10 * 10)  # a multiply-add is two operations, a step three passes
    assert wide["rate"][0] * wide["seconds"][0] == pytest.approx(flops)


def test_both_ways_of_a_density_start_from_the_same_pruned_networks(monkeypatch) -> None:
    seen = []

    def watch(stack: Stack, state: State, epochs: int, engine, trained_by) -> float:
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

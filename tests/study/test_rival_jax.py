"""The rival in JAX computes what the engine computes, from the same batches."""

import pytest
import torch

from dsdlib import ConfigError, RunConfig
from dsdlib.engine import loop
from dsdlib.engine.rounds import run_rounds
from dsdlib.engine.stack import Stack, State
from dsdlib.pruning import prune

pytest.importorskip("jax", reason="JAX is not installed: pip install dsdlib[bench]")
from dsdlib.study import rival_jax

CPU = torch.device("cpu")
LENET = RunConfig(model_args={"width": 0.2}, epochs=2, milestones=(1,), rounds=2, amount=0.5, noise_rate=0.2, lr=0.02)


@pytest.mark.parametrize("density", [1.0, 0.2, 0.02])
@pytest.mark.parametrize("batch_size", [64, 100])  # both leave a part of a batch over
def test_it_trains_to_the_engines_weights(density, batch_size, one_thread) -> None:
    runs = [LENET.vary(batch_size=batch_size, seed=s, weight_decay=d) for s, d in ((0, 0.0), (1, 0.01), (2, 0.001))]
    stack = Stack(runs, CPU)
    state = stack.fresh()
    keep = round(density * stack.remaining[0])
    state = State(state.weights, prune(state.weights.abs(), state.masks, stack.prunable, keep), {})
    parts = stack.network, state.weights, state.masks, stack.data, stack.recipe(0)
    ours, theirs = (train(*parts, stack.generators("order", 0)) for train in (loop.train, rival_jax.train))
    assert (ours - state.weights * state.masks).abs().max() > 0.01
    assert (theirs[state.masks == 0] == 0).all()
    torch.testing.assert_close(theirs, ours, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("schedule", ["iterative", "one_shot"])
def test_it_goes_through_the_same_rounds(schedule, one_thread) -> None:
    runs, ours = LENET.vary(schedule=schedule).grid(seed=[3, 4]), []
    stack = Stack(runs, CPU)
    run_rounds(stack, stack.fresh(), 0, lambda _, state, rows: ours.extend(rows))
    theirs = rival_jax.rounds(Stack(runs, CPU))
    assert [(row["seed"], row["round"]) for row in theirs] == [(seed, round_) for round_ in range(3) for seed in (3, 4)]
    for our, their in zip(ours, theirs, strict=True):
        assert their["sparsity"] == pytest.approx(our["sparsity"], abs=1e-12)
        for name in ("train_accuracy", "test_accuracy"):
            assert their[name] == pytest.approx(our[name], abs=0.01)
    assert len({row["test_accuracy"] for row in theirs}) > 2


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"optimizer": "adam"}, "no teachers, augmentation, Adam"),
        ({"retraining": "weight_rewinding", "rewind_iteration": 3}, "or weight rewinding"),
        (
            {"model": "vgg_like", "model_args": {"depth": 1, "width": 2}},
            "linear layers with biases, and a ReLU between any two",
        ),
    ],
)
def test_it_refuses_what_it_would_compute_differently(changes, why) -> None:
    stack = Stack([LENET.vary(**changes)], CPU)
    with pytest.raises(ConfigError, match=why):
        rival_jax.check(stack.network, stack.data, stack.recipe(1))

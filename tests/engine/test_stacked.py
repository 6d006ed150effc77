"""Runs that share a stack: each has, to the last bit, the numbers it has alone."""

import pytest
import torch

from dsdlib.config import RunConfig
from dsdlib.engine.build import build, stack_shape

LENET = RunConfig(epochs=2, milestones=(1,), rounds=2, noise_rate=0.2, model_args={"width": 0.1})
VGG = LENET.vary(model="vgg_like", model_args={"depth": 2, "width": 4}, batch_size=256)
SHORT = LENET.vary(epochs=1, milestones=())
# Layers of 19,200 and 30,000 weights, of which 9% and then 0.8% are left: they are trained by sparse products.
SPARSE = SHORT.vary(model_args={}, amount=0.91, batch_size=256)
STACKED = [
    LENET.vary(seed=3, noise_rate=0.4),
    LENET.vary(seed=4, noise_rate=0.4, noise_kind="pairflip"),
    LENET.vary(seed=3, noise_rate=0.0, lr=0.2),
    LENET.vary(seed=7, noise_kind="uniform", weight_decay=0.0),
    LENET.vary(seed=3, noise_kind="asymmetric", weight_decay=0.01, lr=0.01),
    LENET.vary(seed=3, noise_rate=0.4, control="dense"),
]


def without_time(row):
    """A row of measures, except for the seconds it took, as text: not-a-number equals itself."""
    return {name: str(value) for name, value in row.items() if name != "seconds"}


def assert_same_run(together, run, alone):
    """Run number ``run`` of one stack has the weights, masks, rows and history of the only run of another."""
    for round_, (state, own) in enumerate(zip(together.states, alone.states, strict=True)):
        assert torch.equal(state.weights[run], own.weights[0])
        assert torch.equal(state.masks[run], own.masks[0])
        assert without_time(together.rows[round_][run]) == without_time(alone.rows[round_][0])
        history = [(epoch, str(row)) for epoch, which, row in together.epochs[round_] if which == run]
        assert history == [(epoch, str(row)) for epoch, _, row in alone.epochs[round_]]


def assert_all_differ(weights):
    assert not any(torch.equal(weights[a], weights[b]) for a in range(len(weights)) for b in range(a))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"criterion": "gradient", "retraining": "weight_rewinding", "rewind_iteration": 20},
        {"criterion": "random", "retraining": "reinit", "batch_size": 100},
        {"model": "mlp", "model_args": {"depth": 3, "width": 33}, "retraining": "finetune", "prunable": "all_but_last"},
    ],
    ids=["magnitude", "gradient", "random", "mlp"],
)
def test_a_run_is_the_same_to_the_last_bit_in_any_stack_and_every_time(changes, train_rounds):
    configs = [config.vary(**changes) for config in STACKED]
    together = train_rounds(*configs)
    for run, config in enumerate(configs):
        for _ in range(1 + (run == 0)):  # the first one twice
            assert_same_run(together, run, train_rounds(config))
    assert_all_differ(together.states[2].weights)


MIXED = {
    "rewound": SHORT.vary(retraining="weight_rewinding", rewind_iteration=5),
    "sparse": SPARSE,
    "sparse layers, Adam": SPARSE.vary(optimizer="adam", lr=0.002, scope="layer"),
}


@pytest.mark.parametrize("config", MIXED.values(), ids=MIXED)
def test_criteria_and_schedules_share_a_stack_and_give_each_run_the_bits_it_has_alone(config, train_rounds):
    runs = config.grid(schedule=["iterative", "one_shot"], criterion=["magnitude", "gradient", "random"])
    assert len({stack_shape(run) for run in runs}) == 1
    together = train_rounds(*runs, history=True)
    for number, run in enumerate(runs):
        assert_same_run(together, number, train_rounds(run, history=True))
    assert_all_differ(together.states[2].weights)


def test_runs_that_start_from_other_networks_share_a_stack_each_with_its_own(train_rounds):
    first = LENET.grid(seed=[5, 6])
    networks = [build(config) for config in (first[0], first[0], first[1])]
    options = [("iterative", "magnitude"), ("one_shot", "random"), ("iterative", "gradient")]
    configs = [
        LENET.vary(start=start, schedule=schedule, criterion=criterion)
        for start, (schedule, criterion) in zip((first[0], first[0], first[1]), options, strict=True)
    ]
    assert len({stack_shape(config) for config in configs}) == 1 and stack_shape(configs[0]) != stack_shape(LENET)
    together = train_rounds(*configs, starts=networks)
    for run, (config, network) in enumerate(zip(configs, networks, strict=True)):
        assert_same_run(together, run, train_rounds(config, starts=[network]))


def test_a_network_with_batchnorm_trains_the_same_twice_and_differently_from_another_seed(train_rounds):
    first, again, other = (train_rounds(VGG.vary(seed=seed)) for seed in (0, 0, 1))
    assert_same_run(first, 0, again)
    for state, same, different in zip(first.states, again.states, other.states, strict=True):
        assert len(state.buffers) == 12
        assert all(torch.equal(state.buffers[name], buffer) for name, buffer in same.buffers.items())
        assert not torch.equal(state.weights, different.weights)

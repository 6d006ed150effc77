"""Runs that their data or their network show to be impossible are refused by name, before any training."""

import pytest

from dsdlib.config import ConfigError, RunConfig
from dsdlib.engine.build import check

LENET = RunConfig(epochs=2, milestones=(1,), rounds=2, noise_rate=0.2, model_args={"width": 0.1})


def test_a_layer_wise_step_that_would_prune_nothing_is_refused():
    run = LENET.vary(rounds=14, amount=0.4, scope="layer")
    with pytest.raises(ConfigError, match="round 14 would prune nothing in any layer; allowed here: at most 13"):
        check(run)  # rounds 13 and 14 both leave 2 + 1 + 1 weights
    check(run.vary(rounds=13))


def test_rewinding_beyond_the_shorter_of_both_trainings_is_refused():
    run = LENET.vary(epochs=3, retrain_epochs=2, retraining="weight_rewinding")
    with pytest.raises(ConfigError, match="rewind_iteration = 34: a training has 34 iterations"):
        check(run.vary(rewind_iteration=34))
    check(run.vary(rewind_iteration=33))

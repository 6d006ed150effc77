"""Least squares as a model of pruning (Chang et al. 2021): what pruning a large fit costs, in theory and simulation.

`problem` states the regression problems, `law` predicts risks from the limit law, and `simulation` draws data sets.
This room needs numpy and scipy only.
"""

from dsdlib.theory.law import (
    Law,
    advantage,
    in_eigenbasis,
    informative_risk,
    limit_law,
    predict,
    predict_correlated,
    predict_relu,
    pruned_risk,
    solve_xi,
    threshold,
)
from dsdlib.theory.problem import (
    CRITERIA,
    DENSE,
    INFORMATIVE,
    RETRAINED,
    SINGULAR,
    SMALL,
    Criterion,
    Problem,
    RegimeError,
    ReluFeatures,
    Row,
    check_kept,
    checked_sizes,
    fading,
    largest,
    relu_features,
)
from dsdlib.theory.simulation import distances, min_norm, pruned_fits, simulate, simulate_relu

__all__ = [
    "CRITERIA",
    "DENSE",
    "INFORMATIVE",
    "RETRAINED",
    "SINGULAR",
    "SMALL",
    "Criterion",
    "Law",
    "Problem",
    "RegimeError",
    "ReluFeatures",
    "Row",
    "advantage",
    "check_kept",
    "checked_sizes",
    "distances",
    "fading",
    "in_eigenbasis",
    "informative_risk",
    "largest",
    "limit_law",
    "min_norm",
    "predict",
    "predict_correlated",
    "predict_relu",
    "pruned_fits",
    "pruned_risk",
    "relu_features",
    "simulate",
    "simulate_relu",
    "solve_xi",
    "threshold",
]

"""How a measure changes over noise rates or sizes of networks, and which sizes fit their labels.

A table here is a tidy table with a row for each run and round. The tables over values that `over_values` makes have a
row for each seed and a column for each value of what varies.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pandas as pd

from dsdlib.analysis.curves import CLEAR, fitting_rounds
from dsdlib.analysis.intervals import Interval, nothing, over_seeds
from dsdlib.analysis.seeds import by_seed, with_shared_seeds
from dsdlib.analysis.valley_depth import mean_valley, places_by_seed

NOT_FITTED = nothing("could not fit its labels")


def fits(table: pd.DataFrame) -> bool:
    """Whether runs that differ only in their seed fit 95% of their training labels in some round, on average."""
    return fitting_rounds(by_seed(table, "train_accuracy").mean(0)) is not None


def fitting(table: pd.DataFrame, by: str | list[str]) -> pd.DataFrame:
    """The rows of those values of the column (or columns) ``by`` whose runs fit their training labels (`fits`)."""
    return table.groupby(by).filter(fits)


def with_clear_valley(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """The rows of those values of the column ``by`` whose mean test curve has a valley deeper than 2 points."""
    return table.groupby(by).filter(lambda group: mean_valley(group).depth > CLEAR)


def over_values(table: pd.DataFrame, by: str, measure: Callable[..., np.ndarray], *arguments: object) -> pd.DataFrame:
    """A ``measure`` of each seed for each value of the column ``by``, a row for each seed, a column for each value.

    ``measure`` takes the rows of one value, and the ``arguments``, and returns a number for each seed, in ascending
    order of seeds. Seeds that not all values have, or whose measure is nan for some value, are left out.
    """
    parts = {
        value: pd.Series(measure(group, *arguments), index=sorted(group["seed"].unique()), dtype=float)
        for value, group in table.groupby(by)
    }
    return pd.DataFrame(parts).dropna()


def trend(values: pd.DataFrame, log: bool = False) -> Interval:
    """By how much a measure changes from the first column of ``values`` to the last, along a straight line.

    ``values`` are those of `over_values`, with numbers as columns in ascending order. A line is fitted to each seed's
    values by least squares, so that all columns count; with ``log``, over the logarithm of the columns.
    """
    x = np.asarray(values.columns, dtype=float)
    return _mean_slope(np.log(x) if log else x, values.to_numpy(), span=True)


def exponent(values: pd.DataFrame) -> Interval:
    """The exponent b of the power law that relates ``values`` to their columns: values proportional to columnsᵇ.

    It is fitted to each seed's logarithms. It is 0 if the values do not depend on the columns, and 1 if they are
    proportional to them.
    """
    return _mean_slope(np.log(np.asarray(values.columns, dtype=float)), np.log(values.to_numpy()), span=False)


def _mean_slope(x: np.ndarray, values: np.ndarray, span: bool) -> Interval:
    """The mean slope of least-squares lines through the rows of ``values``, or its product with the range of ``x``."""
    if values.shape[1] < 2:
        return nothing("fewer than two to compare")
    if not len(values):
        return nothing("not measured")
    slopes = np.polyfit(x, values.T, 1)[0]
    return over_seeds(slopes * (x[-1] - x[0]) if span else slopes)


def weights_at_places(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """With how many prunable weights left each seed reaches a place, for dense networks of several sizes.

    ``Memorising ends`` where just half of the corrupted labels are reproduced. The ``Second peak`` is that of the test
    curve after its valley, for sizes whose valley is clear. Each place has the table of `over_values`, with the dense
    networks' numbers of weights as columns.
    """
    dense = table.assign(dense_weights=table.groupby("key")["remaining_weights"].transform("max"))
    clear = with_clear_valley(dense, "dense_weights")
    return {
        "Memorising ends": over_values(dense, "dense_weights", _where_memorising_ends),
        "Second peak": over_values(clear, "dense_weights", _second_peak),
    }


def _where_memorising_ends(table: pd.DataFrame) -> np.ndarray:
    """The weights left where each seed's share of corrupted labels reproduced last falls below one half, (seeds,).

    They are interpolated between two rounds. They are nan for a seed that never reproduces half of the corrupted
    labels, or that still does in the last round.
    """
    found = []
    for curve in by_seed(table, "train_accuracy_corrupted"):
        last = max(np.flatnonzero(curve >= 0.5), default=-1)
        inside = 0 <= last < len(curve) - 1
        found.append(last + (curve[last] - 0.5) / (curve[last] - curve[last + 1]) if inside else np.nan)
    return _weights_at(table, np.array(found))


def _second_peak(table: pd.DataFrame) -> np.ndarray:
    """The weights left at the second peak of each seed's test curve, (seeds,)."""
    return _weights_at(table, places_by_seed(table, "peak"))


def _weights_at(table: pd.DataFrame, rounds: np.ndarray) -> np.ndarray:
    """The prunable weights left in ``rounds``, which may be fractions: interpolated in their logarithm."""
    left = table.groupby("round")["remaining_weights"].first()
    return np.exp(np.interp(rounds, left.index, np.log(left)))


def distances_of_curves(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """How far apart the test curves of neighbouring sizes lie, in points: at equal weights, and at equal sparsity.

    ``by`` is the column of the sizes. Each round in which the larger network has no more weights than the dense smaller
    one is compared twice: with the smaller network at as many weights, and with the smaller network at the same
    sparsity, both interpolated in the logarithm of the weights. The result has a row for each seed and the columns
    ``weights`` and ``sparsity``, the mean absolute distances over these rounds and over pairs of sizes.
    """
    pairs = []
    for one, other in pairwise(group for _, group in table.groupby(by)):
        small, large = sorted(with_shared_seeds(one, other), key=lambda group: group["remaining_weights"].max())
        (few, low), (many, high) = ((_log_weights(group), by_seed(group)) for group in (small, large))
        rounds = (many <= few[0]) & (many >= few[-1])
        if not rounds.any():
            continue
        partners = {"weights": many[rounds], "sparsity": (many - many[0] + few[0])[rounds]}
        apart = {
            axis: [np.abs(h[rounds] - np.interp(-at, -few, c)).mean() for c, h in zip(low, high, strict=True)]
            for axis, at in partners.items()
        }
        pairs.append(pd.DataFrame(apart, index=sorted(small["seed"].unique())))
    if not pairs:
        return pd.DataFrame(columns=["weights", "sparsity"], dtype=float)
    return 100 * pd.concat(pairs).groupby(level=0).mean()


def _log_weights(table: pd.DataFrame) -> np.ndarray:
    return np.log(table.groupby("round")["remaining_weights"].first().to_numpy(dtype=float))

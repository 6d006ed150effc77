"""What the test risks of the linear problem say (`dsdlib.theory`): changes, peaks, and agreement with the theory.

Tables have the rows of `dsdlib.theory.simulate`: a ``risk`` for each ``estimator``, ``ratio`` (p/n) and ``repeat``. A
repeat is one data set, which all estimators share, so that intervals over data sets resample them together.
"""

import numpy as np
import pandas as pd

from dsdlib.analysis.intervals import Interval, over_seeds
from dsdlib.analysis.valley_depth import depths_by_seed
from dsdlib.theory import RETRAINED

CLOSE = 0.03  # relative difference of two risks that counts as agreement


def change(table: pd.DataFrame, one: str, other: str) -> Interval:
    """By how many percent the mean risk of estimator ``one`` lies above that of ``other``, at one size p."""
    pairs = table.pivot(index="repeat", columns="estimator", values="risk")[[one, other]]
    return over_seeds(pairs.to_numpy(), lambda mean: 100 * (mean[0] / mean[1] - 1))


def retraining(table: pd.DataFrame, x: str) -> pd.Series:
    """By how many percent retraining changes the mean magnitude-pruned risk, for each value of the column ``x``."""
    mean = table.pivot_table(index=x, columns="estimator", values="risk")
    return 100 * (mean[RETRAINED("magnitude")] / mean["magnitude"] - 1)


def peak(table: pd.DataFrame, estimator: str) -> Interval:
    """By how many percent an estimator's risk rises to a peak as p/n grows, and falls again after it.

    The peak is compared with the lowest risk before or after it, whichever of the two is higher. This is the depth of a
    valley of −log(risk), placed by mean curves as in `depths_by_seed` with data sets as seeds, so that noise alone
    makes no peak on average.
    """
    risk = table[table["estimator"] == estimator].pivot(index="repeat", columns="ratio", values="risk")
    return over_seeds(depths_by_seed(-np.log(risk.to_numpy())), lambda mean: 100 * np.expm1(mean))


def lowest(predicted: pd.DataFrame, estimator: str) -> pd.Series:
    """The row of `dsdlib.theory.predict` in which theory puts the estimator's lowest risk."""
    line = predicted[predicted["estimator"] == estimator]
    return line.iloc[line["risk"].argmin()]


def at_best_size(predicted: pd.DataFrame, simulated: pd.DataFrame, estimator: str) -> pd.DataFrame:
    """The simulated rows of the size p > n nearest to the one at which theory puts the estimator's lowest risk.

    The choice uses no simulated risk, so that it does not select by chance.
    """
    ideal = lowest(predicted[predicted["ratio"] > 1], estimator)["features"]
    sizes = simulated.loc[simulated["ratio"] > 1, "features"]
    return simulated[simulated["features"] == min(sizes, key=lambda size: abs(size - ideal))]


def first_win(advantages: pd.DataFrame, kept_ratio: float) -> str:
    """From which p/n on the pruned fit beats the small model, in words.

    ``advantages`` are rows of `dsdlib.theory.advantage`, of which those with ``kept_ratio`` (s/n) are used.
    """
    wins = advantages[(advantages["advantage"] > 0) & (advantages["kept_ratio"] == kept_ratio)]
    return f"from p/n = {wins['ratio'].min():.2f} on" if len(wins) else "at no p/n"


def agreement(distances: pd.DataFrame) -> pd.DataFrame:
    """Whether theory and simulation agree, a row for each estimator.

    ``distances`` are rows of `dsdlib.theory.distances` at one size. The columns are the risk by ``theory``, the mean
    ``simulated`` risk with its interval, their relative ``difference``, and whether they agree: they do if they differ
    by at most `CLOSE`, or if theory lies within the interval.
    """
    rows = []
    for name, group in distances.groupby("estimator", sort=False):
        theory, mean = group["theory"].iloc[0], over_seeds(group["risk"].to_numpy())
        difference = mean.value / theory - 1
        agrees = abs(difference) <= CLOSE or mean.low <= theory <= mean.high
        row = {"estimator": name, "theory": theory, "simulated": mean.value, "low": mean.low, "high": mean.high}
        rows.append(row | {"difference": difference, "agrees": "yes" if agrees else "no"})
    return pd.DataFrame(rows)

"""Dense networks of several widths, and wider ones pruned to the size of narrower ones (Chang et al. 2021)."""

from collections.abc import Mapping

import pandas as pd

from dsdlib.analysis.curves import CLEAR, valley
from dsdlib.analysis.intervals import Interval, nothing
from dsdlib.analysis.valley_depth import depth_over_seeds

FITTED = 0.99  # train accuracy from which on a network fits its labels


def series(table: pd.DataFrame, sizes: Mapping[str, int]) -> pd.DataFrame:
    """The rows of each line in a figure over the width, with their ``test_error``.

    ``table`` is the tidy table of dense networks (``rounds`` 0) and of networks pruned in one step (``rounds`` 1), with
    a column ``width``; ``sizes`` maps the key of each pruned run to s, the width of the dense network of its size. The
    column ``series`` names the lines as `published` does: ``dense``, and for each s ``pruned s=4, retrained``,
    ``pruned s=4, no retraining`` (both by magnitude) and ``pruned s=4, random, retrained``. The columns ``size`` and
    ``way`` are the two parts of these names. The lines of size s begin with the dense network of width s.
    """
    table = table.assign(size=table["key"].map(sizes), test_error=1 - table["test_accuracy"])
    dense, pruned = table[table["rounds"] == 0], table[table["round"] == 1]
    parts = [dense.assign(series="dense", way="dense")]
    for s, group in pruned.groupby("size"):
        magnitude, random = (group[group["criterion"] == criterion] for criterion in ("magnitude", "random"))
        ways = {
            "retrained": magnitude,
            "no retraining": magnitude.assign(test_error=1 - magnitude["pruned_test_accuracy"]),
            "random, retrained": random,
        }
        for way, part in ways.items():
            line = pd.concat([dense[dense["width"] == s], part])
            parts.append(line.assign(series=f"pruned s={s:g}, {way}", size=s, way=way))
    return pd.concat(parts, ignore_index=True)


def first_fit(dense: pd.DataFrame) -> int | None:
    """The narrowest width from which on the mean train accuracy over seeds is at least `FITTED`.

    None if there is no such width. ``dense`` are the rows of the dense networks.
    """
    fits = dense.groupby("width")["train_accuracy"].mean() >= FITTED
    return next((width for width in fits.index if fits.loc[width:].all()), None)


def bump(errors: pd.DataFrame) -> Interval:
    """By how many points test error rises and falls again with the width, the depth of the valley in test accuracy.

    ``errors`` is (seeds, widths). There is nothing to measure with fewer than three widths.
    """
    if errors.shape[1] < 3:
        return nothing("fewer than three widths")
    return depth_over_seeds(100 * (1 - errors.to_numpy()))


def in_words(errors: pd.DataFrame) -> str:
    """From where to where the mean test error rises and falls again with the width, if by more than 2 points.

    ``errors`` is (seeds, widths).
    """
    mean = errors.mean()
    found = valley(1 - mean.to_numpy())
    if found.depth <= CLEAR:
        return "none of more than 2 points"
    places = (found.shoulder, found.bottom, found.peak)
    low, high, end = (f"{mean.iloc[at]:.1%} (width {mean.index[at]})" for at in places)
    return f"from {low} up to {high} and down to {end}"


def compare(series: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Published points (`published.figure`) beside our mean test errors of the same series and width.

    The columns are those of ``points``, ``ours`` and ``distance``, which is ours − theirs. Both are nan where there are
    no runs of that series and width.
    """
    ours = series.groupby(["series", "width"], as_index=False)["test_error"].mean()
    compared = points.merge(ours.rename(columns={"test_error": "ours"}), on=["series", "width"], how="left")
    return compared.assign(distance=compared["ours"] - compared["value"])

"""Curves read off the papers' figures, with reading errors, and their distance from ours."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dsdlib.analysis.curves import CLEAR, Valley, smoothing_window, valley
from dsdlib.config import ConfigError

FILE = Path(__file__).with_name("published_curves.csv")
READ_TO = 1e-5  # the file's sparsities have six digits
MEASURES = {"test_acc_percent": "test_accuracy", "train_acc_percent": "train_accuracy", "test_error": "test_error"}


def figure(name: str, axis: str = "sparsity", series: Sequence[str] = ()) -> pd.DataFrame:
    """The points of a published figure, named PAPER/FIGURE/DATASET, for example ``he2022sparse/Fig. 1/mnist``.

    Each point is a row with its ``series``, ``measure`` (the tidy table's name for it, or ``test_error``, which is
    1 − test accuracy), ``noise_rate``, its place in a column named like the ``axis`` (``sparsity`` as a fraction,
    ``train_pflops`` or ``width``), and ``value`` and ``reading_error`` as fractions. Raises `ConfigError` if there is
    no such figure with this ``axis``, or if it shows none of the ``series``.
    """
    points, names = _points(axis)
    if name not in set(names):
        raise ConfigError(f"published figure {name!r}: unknown; allowed: {', '.join(sorted(set(names)))}")
    found = points[names == name]
    if series and not set(series) & set(found["series"]):
        raise ConfigError(
            f"published figure {name!r}: shows {', '.join(found['series'].unique())}; wanted: {', '.join(series)}"
        )
    scale = found["metric"].str.endswith("percent").map({True: 100, False: 1})
    return pd.DataFrame(
        {
            "series": found["series"],
            "measure": found["metric"].map(MEASURES),
            "noise_rate": found["noise"].str.split().str[0].astype(float),
            axis: found["x"],
            "value": found["value"] / scale,
            "reading_error": found["reading_error"] / scale,
        }
    ).reset_index(drop=True)


def figures(axis: str = "sparsity") -> list[str]:
    """The names of the published figures with this ``axis``."""
    return sorted(set(_points(axis)[1]))


def _points(axis: str) -> tuple[pd.DataFrame, pd.Series]:
    """The rows of the file with this axis, and the name of each one's figure."""
    points = pd.read_csv(FILE)
    points = points[points["metric"].isin(MEASURES.keys()) & (points["x_name"] == axis)]
    return points, points[["paper", "figure", "dataset"]].agg("/".join, axis=1)


def compare(table: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """The ``points`` of a `figure` with our mean over seeds as ``ours``, and ``distance`` = ours − published.

    The runs of the ``table`` differ only in their seed. At sparsities between two of our rounds ours is interpolated,
    linearly in the logarithm of the density; beyond our rounds it is nan.
    """
    parts = []
    for measure, series in points.groupby("measure"):
        mean = table.groupby("sparsity")[measure].mean()
        rounds, at = mean.index.to_numpy(), series["sparsity"]
        ours = pd.Series(np.interp(np.log1p(-at), np.log1p(-rounds)[::-1], mean.to_numpy()[::-1]), at.index)
        parts.append(series.assign(ours=ours.where(at.between(rounds[0] - READ_TO, rounds[-1] + READ_TO))))
    compared = pd.concat(parts).sort_index()
    return compared.assign(distance=compared["ours"] - compared["value"])


def agreement(compared: pd.DataFrame) -> pd.DataFrame:
    """How close our curves are to the published ones, a row for each series of `compare`'s result.

    The columns are the number of ``points`` compared, the mean and the largest absolute distance, ``at_sparsity`` of
    the largest, the largest ``reading_error``, and the sparsities of the valley and the second peak of both curves,
    which are nan for a curve without a clear valley.
    """
    rows = []
    for series, part in compared.dropna(subset="ours").groupby("series", sort=False):
        gap, sparsity = part["distance"].abs(), part["sparsity"].to_numpy()
        theirs, ours = (_valley(part, column) for column in ("value", "ours"))
        row = {
            "series": series,
            "points": len(part),
            "mean_distance": gap.mean(),
            "largest_distance": gap.max(),
            "at_sparsity": sparsity[gap.argmax()],
            "reading_error": part["reading_error"].max(),
        }
        for place, name in (("bottom", "valley"), ("peak", "peak")):
            for whose, found in (("published", theirs), ("ours", ours)):
                clear = found.depth > CLEAR
                row[f"{name}_{whose}"] = sparsity[getattr(found, place)] if clear else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def _valley(points: pd.DataFrame, column: str) -> Valley:
    return valley(points[column].to_numpy(), smoothing_window(points["sparsity"]))


def in_words(compared: pd.DataFrame) -> str:
    """The `agreement` of all series as a sentence with distances in points."""
    distances = [
        f"{row.series} {100 * row.mean_distance:.1f} points on average, {100 * row.largest_distance:.1f} at most "
        f"(at {row.at_sparsity:.1%} sparsity), read to within {100 * row.reading_error:.1f}"
        for row in agreement(compared).itertuples()
    ]
    return f"Distance from the published curve: {'; '.join(distances) or 'no point to compare'}."

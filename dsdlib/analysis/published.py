"""Curves read off the papers' figures, to stand beside ours; each point has its reading error."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dsdlib.analysis.curves import CLEAR, valley
from dsdlib.config import ConfigError

FILE = Path(__file__).with_name("published_curves.csv")


READ_TO = 1e-5  # the file's sparsities have six digits


MEASURES = {"test_acc_percent": "test_accuracy", "train_acc_percent": "train_accuracy", "test_error": "test_error"}


def figure(name: str, axis: str = "sparsity", series: Sequence[str] = ()) -> pd.DataFrame:
    """A published figure's points, by PAPER/FIGURE/DATASET, for example ``he2022sparse/Fig. 1/mnist``.

    A row a point: ``series``, ``measure`` (the tidy table's name for it, or ``test_error``, 1 − test accuracy),
    ``noise_rate``, its place in a column named like the ``axis`` (``sparsity`` as a fraction, ``train_pflops`` or
    ``width``), ``value`` and ``reading_error`` as fractions.
    Raises `ConfigError` for a figure that there is not, or not with that axis or one of those ``series``.
    """
    everything = pd.read_csv(FILE)
    everything = everything[everything["metric"].isin(MEASURES.keys()) & (everything["x_name"] == axis)]
    names = everything[["paper", "figure", "dataset"]].agg("/".join, axis=1)
    if name not in set(names):
        raise ConfigError(f"published figure {name!r}: unknown; allowed: {', '.join(sorted(set(names)))}")
    found = everything[names == name]
    if series and not set(series) & set(found["series"]):
        raise ConfigError(
            f"published figure {name!r}: shows {', '.join(found['series'].unique())}; wanted: {', '.join(series)}"
        )
    whole = found["metric"].str.endswith("percent").map({True: 100, False: 1})
    return pd.DataFrame(
        {
            "series": found["series"],
            "measure": found["metric"].map(MEASURES),
            "noise_rate": found["noise"].str.split().str[0].astype(float),
            axis: found["x"],
            "value": found["value"] / whole,
            "reading_error": found["reading_error"] / whole,
        }
    ).reset_index(drop=True)


def compare(table: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Published points beside our mean over seeds, of runs that differ in their seed alone: `figure`'s rows with
    ``ours``, read off between our rounds where a point's sparsity is none of ours, and ``distance`` = ours − theirs."""
    parts = []
    for measure, series in points.groupby("measure"):
        mean = table.groupby("sparsity")[measure].mean()
        known, at = mean.index.to_numpy(), series["sparsity"]
        ours = pd.Series(np.interp(np.log1p(-at), np.log1p(-known)[::-1], mean.to_numpy()[::-1]), at.index)
        parts.append(series.assign(ours=ours.where(at.between(known[0] - READ_TO, known[-1] + READ_TO))))
    compared = pd.concat(parts).sort_index()
    return compared.assign(distance=compared["ours"] - compared["value"])


def agreement(compared: pd.DataFrame) -> pd.DataFrame:
    """How near ours comes, a row a series: mean and largest distance (in either direction), where the largest lies,
    the reading error, and the sparsity of valley and second peak in each, where it has a clear valley."""
    rows = []
    for series, part in compared.dropna(subset="ours").groupby("series", sort=False):
        gap, sparsity = part["distance"].abs(), part["sparsity"].to_numpy()
        theirs, ours = valley(part["value"].to_numpy()), valley(part["ours"].to_numpy())
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


def in_words(compared: pd.DataFrame) -> str:
    """The agreement of each series as a sentence, its numbers in points."""
    said = [
        f"{row.series} {100 * row.mean_distance:.1f} points on average, {100 * row.largest_distance:.1f} at most "
        f"(at {row.at_sparsity:.1%} sparsity), read to within {100 * row.reading_error:.1f}"
        for row in agreement(compared).itertuples()
    ]
    return f"Distance from the published curve: {'; '.join(said) or 'no point to compare'}."

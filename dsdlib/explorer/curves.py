"""What the explorer draws and says of the runs of one choice: a curve, its phases, a title and a depth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from dsdlib import analysis
from dsdlib.analysis import published
from dsdlib.config import RunConfig

MEASURES = {  # name → column and axis label
    "test": ("test_accuracy", "Test accuracy (%)"),
    "train": ("train_accuracy", "Train accuracy, given labels (%)"),
    "memorised": ("train_accuracy_corrupted", "Wrong labels reproduced (%)"),
    "entropy": ("entropy", "Entropy of the neurons (bits)"),
    "distance": ("learning_distance", "Learning distance"),
    "calibration": ("test_ece", "Calibration error, test (%)"),
}
XS = {"sparsity": "sparsity", "weights left": "remaining_weights"}


@dataclass(frozen=True)
class Curve:
    """A measure of runs that differ only in their seed, round by round.

    ``places`` has a row for each round with ``sparsity`` and ``remaining_weights``. ``mean``, ``low`` and ``high`` are
    (rounds,), the interval nan where there are fewer than three seeds, and ``seeds`` is (seeds, rounds).
    """

    places: pd.DataFrame
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: np.ndarray

    def x(self, name: str) -> np.ndarray:
        """The place of each round on the axis that `XS` calls ``name``."""
        return self.places[XS[name]].to_numpy()


def measured(table: pd.DataFrame) -> list[str]:
    """The names of the `MEASURES` that the table has values of."""
    return [name for name, (column, _) in MEASURES.items() if column in table and table[column].notna().any()]


def curve(table: pd.DataFrame, measure: str) -> Curve:
    """The curve of one of the `MEASURES`. Rounds that only some of the seeds have finished are drawn as well."""
    column = MEASURES[measure][0]
    found = analysis.means(table, ["round"], column)
    places = table.groupby("round")[["sparsity", "remaining_weights"]].mean()
    return Curve(places, *(found[name].to_numpy() for name in ("mean", "low", "high")), analysis.by_seed(table, column))


def finished(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the rounds that all seeds of a table have finished."""
    return table[table["round"] <= table.groupby("key")["round"].max().min()]


def phases(table: pd.DataFrame) -> list[str]:
    """The phase of each round that all seeds have finished; none if there are too few or if a run diverged."""
    table = finished(table)
    if table["round"].nunique() < 3 or table["test_accuracy"].isna().any():
        return []
    return analysis.mean_phases(table)


def sentence(table: pd.DataFrame) -> str:
    """What the mean test curve does, as a sentence, with the depth of its valley."""
    table = finished(table)
    if table["test_accuracy"].isna().any():
        first = table.loc[table["test_accuracy"].isna(), "round"].min()
        return f"A run diverged in round {first}: its accuracies are not known from there on."
    mean = table.groupby("sparsity")["test_accuracy"].mean()
    if len(mean) < 3:
        return f"Test accuracy is {mean.iloc[0]:.1%} dense. A curve needs three finished rounds."
    said = analysis.in_words(list(mean.index), mean.to_numpy())
    return f"{said[0].upper()}{said[1:]}."


def depth(table: pd.DataFrame) -> str:
    """The depth of the valley with its interval, and the number of seeds, in words."""
    table, seeds = finished(table), table["seed"].nunique()
    count = f"{seeds} seed{'s' * (seeds != 1)}"
    if table["round"].nunique() < 3 or table["test_accuracy"].isna().any():
        return count
    found = analysis.depth(table)
    interval = "95% interval over seeds" if np.isfinite(found.low) else "too few seeds for an interval"
    return f"Depth of the valley: {found:.1f} points ({interval}; {count})"


def at_round(table: pd.DataFrame, measure: str, round_: int) -> str:
    """The measure in one round, in words."""
    found = curve(table[table["round"] == round_], measure)
    percent = MEASURES[measure][1].endswith("(%)")
    value, half = found.mean[0], (found.high - found.low)[0] / 2
    write = (lambda number: f"{100 * number:.1f}") if percent else (lambda number: f"{number:.3f}")
    reach = f" ± {write(half)}" if np.isfinite(half) else ""
    name, unit = MEASURES[measure][1].removesuffix(" (%)"), "%" if percent else ""
    place = f"{found.places['sparsity'].iloc[0]:.2%} sparsity, {found.places['remaining_weights'].iloc[0]:,.0f} weights"
    return f"Round {round_}: {place} left. {name}: {write(value)}{reach}{unit}"


def published_points(config: RunConfig, measure: str) -> pd.DataFrame:
    """The papers' points for runs like this one: the same data set and noise rate, and a measure against sparsity.

    The columns are those of `dsdlib.analysis.published.figure` and ``figure``, its name. There are no rows if no paper
    shows such a curve.
    """
    points = _points(config.dataset)
    alike = (points["measure"] == MEASURES[measure][0]) & np.isclose(points["noise_rate"], config.noise_rate)
    return points[alike]


@lru_cache(maxsize=4)
def _points(dataset: str) -> pd.DataFrame:
    """All published points against sparsity on a data set."""
    names = [name for name in published.figures("sparsity") if name.rpartition("/")[2] == dataset]
    columns = {"measure": object, "noise_rate": float, "sparsity": float, "value": float}
    empty = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()})
    parts = [published.figure(name).assign(figure=name) for name in names]
    return pd.concat(parts, ignore_index=True) if parts else empty

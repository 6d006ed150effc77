"""Rows of the tidy table, as a dictionary each, while a run is in training. No torch."""

import math
from typing import Any

Row = dict[str, Any]


def mark_diverged(rows: list[Row]) -> list[Row]:
    """Mark, in place, the rounds in which a run has diverged; ``rows`` are its rows from round 0 on.

    The column ``diverged`` is true from the first round on whose train loss is not finite. The accuracies of these
    rounds become NaN, so that no mean includes them.
    """
    diverged = False
    for row in rows:
        diverged = diverged or not math.isfinite(row["train_loss"])
        row["diverged"] = diverged
        if diverged:
            row |= {name: math.nan for name in row if "accuracy" in name}
    return rows


def best_epoch(epochs: list[Row]) -> Row:
    """A round's columns for its best epoch: the first one with the highest validation accuracy.

    ``epochs`` are a run's rows of the round's epochs, with their number as ``epoch``. The values are NaN if no epoch
    has a validation accuracy.
    """
    candidates = [row for row in epochs if not math.isnan(row["validation_accuracy"])]
    best = max(candidates, key=lambda row: row["validation_accuracy"], default={})
    names = {"best_epoch": "epoch"}
    names |= {f"best_epoch_{name}": name for name in ("validation_accuracy", "test_accuracy")}
    return {column: best.get(name, math.nan) for column, name in names.items()}

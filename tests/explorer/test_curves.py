"""What the explorer says of a curve whose seeds have not all come as far: only rounds that all have finished count."""

import pandas as pd

from dsdlib.explorer import curves

VALLEY = [0.80, 0.78, 0.70, 0.60, 0.70, 0.80, 0.50]


def table(*rounds: int) -> pd.DataFrame:
    """A run for each seed, with so many rounds."""
    columns = [
        {"key": f"run {seed}", "seed": seed, "round": r, "sparsity": 1 - 0.5**r, "test_accuracy": VALLEY[r]}
        for seed, done in enumerate(rounds)
        for r in range(done)
    ]
    return pd.DataFrame(columns).assign(train_accuracy=1.0)


def test_only_rounds_that_all_seeds_have_finished_are_described() -> None:
    growing, common = table(7, 7, 5), table(5, 5, 5)
    assert curves.finished(growing)["round"].max() == 4
    assert curves.phases(growing) == curves.phases(common) and len(curves.phases(common)) == 5
    assert curves.sentence(growing) == curves.sentence(common) != curves.sentence(table(7, 7, 7))
    assert curves.phases(table(7, 2)) == []  # too few to tell

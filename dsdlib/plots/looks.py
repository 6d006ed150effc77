"""What each series is called and how it is drawn, the same in every figure."""

from collections.abc import Hashable, Sequence
from itertools import cycle
from typing import NamedTuple

import pandas as pd
import seaborn as sns

from dsdlib.plots.style import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALETTE,
    PEACH,
    PINK,
    SKY,
    TEST,
    TRAIN,
    VERMILION,
)

Line = str | tuple[int, tuple[float, ...]]
SOLID, DASHED, DOTTED, DASHDOT = "-", "--", ":", "-."
LINES = (SOLID, DASHED, DOTTED, DASHDOT, (0, (2, 1)), (0, (7, 1.5)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 2.5)))
MARKERS = ("o", "D", "^", "s", "v", "P", "X", "p")


class Look(NamedTuple):
    """The label, the colour, the line style and the marker of a series."""

    label: str
    colour: str
    line: Line = SOLID
    marker: str = "o"


# By the name in a table. `look` also knows a series by its label.
LOOKS = {
    # Retraining.
    "lr_rewinding": Look("learning-rate rewinding", BLUE, SOLID, "o"),
    "weight_rewinding": Look("weight rewinding", ORANGE, DASHED, "D"),
    "finetune": Look("fine-tuning", GREEN, DOTTED, "^"),
    "reinit": Look("re-initialisation", VERMILION, DASHDOT, "s"),
    # Pruning criteria, and the estimators of the linear theory.
    "magnitude": Look("magnitude", VERMILION, SOLID, "o"),
    "gradient": Look("gradient", BLUE, DASHED, "D"),
    "random": Look("random", GREEN, DASHDOT, "^"),
    "dense": Look("dense", INK, SOLID, "o"),
    "magnitude, retrained": Look("magnitude, retrained", PEACH, DASHED, "o"),
    "Hessian": Look("Hessian", BLUE, SOLID, "D"),
    "Hessian, retrained": Look("Hessian, retrained", SKY, DASHED, "D"),
    "oracle": Look("oracle", GREEN, DASHDOT, "P"),
    "informative features only": Look("informative features only", PINK, DOTTED, "s"),
    "as few features": Look("as few features", PINK, DOTTED, "s"),
    # Networks pruned to the size of a narrower one.
    "retrained": Look("retrained", VERMILION, DASHED, "s"),
    "no retraining": Look("no retraining", GREY, DOTTED, "D"),
    "random, retrained": Look("random, retrained", GREEN, DASHDOT, "^"),
    # Ways of pruning.
    "global": Look("global", BLUE, SOLID, "o"),
    "layer by layer": Look("layer by layer", ORANGE, DASHED, "D"),
    "one-shot": Look("one-shot", GREEN, DOTTED, "^"),
    # Teachers.
    "no teacher": Look("no teacher", INK, SOLID, "o"),
    "dense teacher": Look("dense teacher", ORANGE, DASHED, "D"),
    "best-fit teacher": Look("best-fit teacher", BLUE, DASHDOT, "^"),
    "no teacher, teacher's weight decay": Look("no teacher, teacher's weight decay", GREEN, DOTTED, "s"),
    # Label noise.
    "symmetric": Look("symmetric", VERMILION, SOLID, "o"),
    "uniform": Look("uniform", BLUE, DASHED, "D"),
    "pairflip": Look("pair flip", GREEN, DASHDOT, "^"),
    "asymmetric": Look("asymmetric", PINK, DOTTED, "s"),
    # Families of networks.
    "mlp": Look("fully connected", BLUE, SOLID, "o"),
    "vgg_like": Look("VGG-like", ORANGE, DASHED, "D"),
    # Stopping rules.
    "early stop": Look("early stop", BLUE, SOLID, "o"),
    "entropy-armed stop": Look("entropy-armed stop", VERMILION, DASHED, "D"),
    "no stop": Look("no stop", INK, DOTTED, "^"),
}
PARTS = {"test_accuracy": Look("Test", TEST, SOLID), "train_accuracy": Look("Train (noisy labels)", TRAIN, DASHED)}
MEMORISED = {
    "train_accuracy_clean": Look("Clean labels, learned", TRAIN, SOLID),
    "train_accuracy_corrupted": Look("Corrupted labels, memorised", TEST, DASHED),
}
_BY_NAME = {name.lower(): own for key, own in LOOKS.items() for name in (key, own.label)}


def look(name: object) -> Look | None:
    """The look of a series, by its name in a table or its label, in lower or upper case; None if it has none."""
    return _BY_NAME.get(str(name).lower())


def looks(column: pd.Series) -> dict[Hashable, Look]:
    """A look for each value of a column.

    Numbers are in ascending order and get shades of one colour. Names are in order of appearance; those with a look of
    their own keep it, and the others get colours and line styles that no other series in the column has.
    """
    if is_ordered(column):
        values = sorted(column.dropna().unique())
        write = "{:.0%}" if column.name == "noise_rate" else "{:g}"
        shade = sns.color_palette(PALETTE, len(values)).as_hex()
        return {value: Look(write.format(value), colour) for value, colour in zip(values, shade, strict=True)}
    names = list(column.dropna().unique())
    known = {name: own for name in names if (own := look(name))}
    used = {own.colour for own in known.values()}
    others = [name for name in names if name not in known]
    colours = cycle([colour for colour in COLOURS if colour not in used] or COLOURS)
    free = {
        name: Look(str(name), colour, line, marker)
        for name, colour, line, marker in zip(others, colours, cycle(LINES), cycle(MARKERS), strict=False)
    }
    return {name: known.get(name) or free[name] for name in names}


def shades(names: Sequence[Hashable]) -> dict[Hashable, str]:
    """A colour for each name: ink for the first, and shades of one colour for the others."""
    return dict(zip(names, [INK, *sns.color_palette(PALETTE, len(names) - 1).as_hex()], strict=True))


def is_ordered(column: pd.Series) -> bool:
    """Whether the values of a column are numbers."""
    return pd.api.types.is_numeric_dtype(column)


def spoken(column: str) -> str:
    """A column's name as a heading: ``noise_rate`` becomes "Noise rate"."""
    words = column.replace("_", " ")
    return words[:1].upper() + words[1:]

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
    MUTED,
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


class SeriesStyle(NamedTuple):
    """The label, the colour, the line style and the marker of a series."""

    label: str
    colour: str
    line: Line = SOLID
    marker: str = "o"


# By the name in a table. `series_style` also finds a series by its label.
SERIES = {
    # Retraining.
    "lr_rewinding": SeriesStyle("learning-rate rewinding", BLUE, SOLID, "o"),
    "weight_rewinding": SeriesStyle("weight rewinding", ORANGE, DASHED, "D"),
    "finetune": SeriesStyle("fine-tuning", GREEN, DOTTED, "^"),
    "reinit": SeriesStyle("re-initialisation", VERMILION, DASHDOT, "s"),
    # Pruning criteria, and the estimators of the linear theory.
    "magnitude": SeriesStyle("magnitude", VERMILION, SOLID, "o"),
    "gradient": SeriesStyle("gradient", BLUE, DASHED, "D"),
    "random": SeriesStyle("random", GREEN, DASHDOT, "^"),
    "dense": SeriesStyle("dense", INK, SOLID, "o"),
    "magnitude, retrained": SeriesStyle("magnitude, retrained", PEACH, DASHED, "o"),
    "Hessian": SeriesStyle("Hessian", BLUE, SOLID, "D"),
    "Hessian, retrained": SeriesStyle("Hessian, retrained", SKY, DASHED, "D"),
    "oracle": SeriesStyle("oracle", GREEN, DASHDOT, "P"),
    "informative features only": SeriesStyle("informative features only", PINK, DOTTED, "s"),
    "as few features": SeriesStyle("as few features", PINK, DOTTED, "s"),
    # Networks pruned to the size of a narrower one.
    "retrained": SeriesStyle("retrained", VERMILION, DASHED, "s"),
    "no retraining": SeriesStyle("no retraining", GREY, DOTTED, "D"),
    "random, retrained": SeriesStyle("random, retrained", GREEN, DASHDOT, "^"),
    # Ways of pruning.
    "global": SeriesStyle("global", BLUE, SOLID, "o"),
    "layer by layer": SeriesStyle("layer by layer", ORANGE, DASHED, "D"),
    "one-shot": SeriesStyle("one-shot", GREEN, DOTTED, "^"),
    # Teachers.
    "no teacher": SeriesStyle("no teacher", INK, SOLID, "o"),
    "dense teacher": SeriesStyle("dense teacher", ORANGE, DASHED, "D"),
    "best-fit teacher": SeriesStyle("best-fit teacher", BLUE, DASHDOT, "^"),
    "no teacher, teacher's weight decay": SeriesStyle("no teacher, teacher's weight decay", GREEN, DOTTED, "s"),
    # Label noise.
    "symmetric": SeriesStyle("symmetric", VERMILION, SOLID, "o"),
    "uniform": SeriesStyle("uniform", BLUE, DASHED, "D"),
    "pairflip": SeriesStyle("pair flip", GREEN, DASHDOT, "^"),
    "asymmetric": SeriesStyle("asymmetric", PINK, DOTTED, "s"),
    # Families of networks.
    "mlp": SeriesStyle("fully connected", BLUE, SOLID, "o"),
    "vgg_like": SeriesStyle("VGG-like", ORANGE, DASHED, "D"),
    # Stopping rules.
    "early stop": SeriesStyle("early stop", BLUE, SOLID, "o"),
    "entropy-armed stop": SeriesStyle("entropy-armed stop", VERMILION, DASHED, "D"),
    "no stop": SeriesStyle("no stop", INK, DOTTED, "^"),
}
PARTS = {
    "test_accuracy": SeriesStyle("Test", TEST, SOLID),
    "train_accuracy": SeriesStyle("Train (noisy labels)", TRAIN, DASHED),
}
VALIDATION = SeriesStyle("Validation", MUTED, DOTTED)
MEMORISED = {
    "train_accuracy_clean": SeriesStyle("Clean labels, learned", TRAIN, SOLID),
    "train_accuracy_corrupted": SeriesStyle("Corrupted labels, memorised", TEST, DASHED),
}
_BY_NAME = {name.lower(): own for key, own in SERIES.items() for name in (key, own.label)}


def series_style(name: object) -> SeriesStyle | None:
    """The style of a series, by its name in a table or its label, in lower or upper case; None if it has none."""
    return _BY_NAME.get(str(name).lower())


def series_styles(column: pd.Series) -> dict[Hashable, SeriesStyle]:
    """A style for each value of a column.

    Numbers are in ascending order and get shades of one colour. Names are in order of appearance; those in `SERIES`
    keep their style, and the others get a line style each and colours that no other series in the column has.
    """
    if is_ordered(column):
        values = sorted(column.dropna().unique())
        write = "{:.0%}" if column.name == "noise_rate" else "{:g}"
        shade = sns.color_palette(PALETTE, len(values)).as_hex()
        return {value: SeriesStyle(write.format(value), colour) for value, colour in zip(values, shade, strict=True)}
    names = list(column.dropna().unique())
    known = {name: own for name in names if (own := series_style(name))}
    used = {own.colour for own in known.values()}
    others = [name for name in names if name not in known]
    colours = cycle([colour for colour in COLOURS if colour not in used] or COLOURS)
    free = {
        name: SeriesStyle(str(name), colour, line, marker)
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

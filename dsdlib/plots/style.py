"""The theme of all figures: colours that colour-blind readers can tell apart, and matplotlib's settings."""

import seaborn as sns

INK, MUTED = "#22262b", "#6b7280"
# Seaborn's palette for colour-blind readers.
BLUE, ORANGE, GREEN, VERMILION, PINK, BROWN = "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161"
GREY, SKY, PEACH = "#949494", "#56b4e9", "#f2b489"
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PINK, BROWN, SKY, GREY)
PALETTE = "flare"  # shades of one colour, for ordered numbers
TEST, TRAIN = VERMILION, BLUE
PHASE_COLOURS = {"light": "#ffffff", "critical": "#fbe6df", "sweet": "#dcebf9", "collapsed": "#e4e5e7"}


def set_theme() -> None:
    """Set matplotlib's and seaborn's defaults for all figures of a notebook."""
    sns.set_theme(
        context="notebook",
        style="ticks",
        palette=COLOURS,
        rc={
            "figure.figsize": (8, 4.8),
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": MUTED,
            "axes.labelcolor": INK,
            "axes.titlelocation": "left",
            "axes.titleweight": "bold",
            "text.color": INK,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "grid.color": "#eceef0",
            "axes.grid": True,
            "axes.axisbelow": True,
            "legend.frameon": False,
            "lines.linewidth": 2,
        },
    )

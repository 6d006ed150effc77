"""Advice on one pruning run: its curves, their phases, the valley, and where to stop."""

from matplotlib.axes import Axes

from dsdlib.analysis.advice import Advice
from dsdlib.analysis.curves import CLEAR
from dsdlib.analysis.seeds import by_seed
from dsdlib.plots.curves import mark, parts, shade_phases
from dsdlib.plots.series import DOTTED, PARTS, VALIDATION
from dsdlib.plots.style import INK

ACCURACIES = {
    "test_accuracy": PARTS["test_accuracy"],
    "validation_accuracy": VALIDATION,
    "train_accuracy": PARTS["train_accuracy"]._replace(label="Train"),
}


def advice(found: Advice, ax: Axes | None = None) -> Axes:
    """The accuracies that the table has, against sparsity, with 95% intervals over seeds.

    The phases are shaded. The bottom and the second peak of the mean test curve are marked if its valley is deeper than
    2 points, and a line marks the sparsity at which to stop.
    """
    ax = parts(found.table, {name: style for name, style in ACCURACIES.items() if name in found.table}, ax)
    sparsities, test = found.phases["sparsity"].tolist(), by_seed(found.table).mean(0)
    shade_phases(ax, sparsities, found.phases["phase"].tolist())
    if found.valley.depth > CLEAR:
        for at, above in ((found.valley.bottom, False), (found.valley.peak, True)):
            mark(ax, sparsities[at], test[at], f"{100 * test[at]:.0f}%", above)
    if found.stop is not None:
        ax.axvline(sparsities[found.stop], color=INK, lw=1, ls=DOTTED, label="Stop")
        ax.legend()
    return ax

"""What tables of finished runs say. Nothing here trains a network or reads the store.

`curves` describes one curve, `intervals` a value over seeds, `seeds` differences between groups of runs, and
`valley_depth` the depth and place of their valleys. `stopping` has the rules for when to stop, `published` the papers'
curves, and `claims` the verdicts. `tables` reads tables that other programs wrote, and `advice` answers the questions
of this study for one of them.
"""

from dsdlib.analysis.advice import Advice, advise
from dsdlib.analysis.curves import (
    CLEAR,
    PHASES,
    Valley,
    amid,
    best_epochs,
    climbs,
    in_words,
    phases,
    stays_below,
    valley,
)
from dsdlib.analysis.intervals import NOTHING, Interval, means, nothing, over_seeds, speed_up
from dsdlib.analysis.seeds import (
    best_setting,
    by_seed,
    difference,
    fall,
    largest_lead,
    paired,
    rank_correlation,
    rounds_won,
)
from dsdlib.analysis.valley_depth import (
    depth,
    depth_difference,
    depth_over_seeds,
    depths_by_seed,
    earlier,
    how_many_clear,
    mean_phases,
    mean_valley,
    phase_table,
    turn_from_peak,
    valleys,
)

__all__ = [
    "CLEAR",
    "NOTHING",
    "PHASES",
    "Advice",
    "Interval",
    "Valley",
    "advise",
    "amid",
    "best_epochs",
    "best_setting",
    "by_seed",
    "climbs",
    "depth",
    "depth_difference",
    "depth_over_seeds",
    "depths_by_seed",
    "difference",
    "earlier",
    "fall",
    "how_many_clear",
    "in_words",
    "largest_lead",
    "mean_phases",
    "mean_valley",
    "means",
    "nothing",
    "over_seeds",
    "paired",
    "phase_table",
    "phases",
    "rank_correlation",
    "rounds_won",
    "speed_up",
    "stays_below",
    "turn_from_peak",
    "valley",
    "valleys",
]

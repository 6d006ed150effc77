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
from dsdlib.analysis.intervals import NOTHING, Interval, least_certain, means, nothing, over_seeds, speed_up
from dsdlib.analysis.seeds import (
    best_of_each_round,
    best_setting,
    by_seed,
    difference,
    fall,
    final_ascent_grows,
    largest_lead,
    mean_lead,
    paired,
    rank_correlation,
    rounds_won,
)
from dsdlib.analysis.valley_depth import (
    correlation_to_peak,
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
    "best_of_each_round",
    "best_setting",
    "by_seed",
    "climbs",
    "correlation_to_peak",
    "depth",
    "depth_difference",
    "depth_over_seeds",
    "depths_by_seed",
    "difference",
    "earlier",
    "fall",
    "final_ascent_grows",
    "how_many_clear",
    "in_words",
    "largest_lead",
    "least_certain",
    "mean_lead",
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

"""Advice on one pruning run, from its table alone: is there a double descent, which phase is each sparsity in, where
should one stop, and what would change it.

Nothing is trained here, and nothing is chosen by test accuracy. What a table does not hold is named as unknown.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from dsdlib.analysis import stopping
from dsdlib.analysis.claims import ABSENT, FEWEST_TO_JUDGE, NOTHING_TO_JUDGE, SUPPORTED, UNDECIDED, judge
from dsdlib.analysis.curves import CLEAR, Valley, in_words, phases
from dsdlib.analysis.intervals import Interval, nothing, over_seeds
from dsdlib.analysis.seeds import by_seed
from dsdlib.analysis.tables import Percent, read_table
from dsdlib.analysis.valley_depth import depth, depth_difference, mean_valley, window

ANSWERS = {SUPPORTED: "yes", ABSENT: "no", UNDECIDED: "undecided", NOTHING_TO_JUDGE: "unknown"}
BEST_EPOCHS = "every round stopped at its best epoch"
BEST_DENSE_EPOCH = "no pruning, and the dense network stopped at its best epoch"
Table = pd.DataFrame | Path | str


@dataclass(frozen=True)
class Change:
    """What another run changes, over the seeds that both have.

    ``depth`` is the depth of the other run's valley, ``shallower`` by how much it is less deep, and ``gain`` by how
    much the test accuracy of the network taken is higher, all in points. What could not be measured is nan.
    """

    name: str
    depth: Interval
    shallower: Interval
    gain: Interval

    def __str__(self) -> str:
        valley = f"the valley is {self.depth:.1f} points deep, {self.shallower:.1f} points less; "
        gain = f"test accuracy of the network taken: {self.gain:+.1f} points"
        return f"{self.name}: {'' if np.isnan(self.depth.value) else valley}{gain}"


@dataclass(frozen=True, repr=False)
class Advice:
    """The answers of `advise`. Its text and its HTML say them in sentences.

    ``double_descent`` is yes, no, undecided or unknown; ``depth`` is the depth of the valley in points, with its
    interval, and ``valley`` has its places as rounds. ``further`` holds the depths of other valleys of the curve, by
    the sparsity of their bottom. ``phases`` has a row for each sparsity: its ``phase`` by the mean curves, and
    ``agreement``, the share of the seeds whose own curves give the same phase. ``outcomes`` are those of
    `dsdlib.analysis.stopping` for each seed and rule that uses no test data, and ``stop`` is the round to take: of all
    rounds the last whose mean validation accuracy is within the ``tolerance`` of the best. Without validation accuracy
    there are no outcomes, and ``stop`` is None. ``changes`` compares other runs. ``unknown`` says what this table
    cannot answer, and why. ``table`` is the tidy table.
    """

    table: pd.DataFrame
    double_descent: str
    depth: Interval
    valley: Valley
    further: dict[float, Interval]
    phases: pd.DataFrame
    outcomes: pd.DataFrame
    stop: int | None
    tolerance: float
    changes: tuple[Change, ...]
    unknown: tuple[str, ...]

    def sections(self) -> dict[str, list[str]]:
        """The answers in sentences, by question."""
        found = {
            "Is there a sparse double descent?": _about_valley(self),
            "In which phase is each sparsity?": _about_phases(self),
            "Where should one stop?": _about_stopping(self),
            "What would change it?": [f"{change}." for change in self.changes],
            "What this table cannot say": list(self.unknown),
        }
        return {question: lines for question, lines in found.items() if lines}

    def __repr__(self) -> str:
        return "\n".join("\n  ".join([question, *lines]) for question, lines in self.sections().items())

    def _repr_html_(self) -> str:
        return "".join(
            f"<h4>{escape(question)}</h4><ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
            for question, lines in self.sections().items()
        )


def advise(
    table: Table,
    *,
    others: Mapping[str, Table] | None = None,
    percent: Percent = None,
    tolerance: float = 0.01,
    level: float = 0.9,
) -> Advice:
    """Advice on a pruning run, which any program may have made, from its ``table`` (`read_table` says what it holds).

    ``others`` are tables of runs that differ from it in one thing, by the name of that thing, to say what it changes.
    ``percent`` is `read_table`'s, and ``tolerance`` and ``level`` are those of the stopping rules. Raises `ConfigError`
    for a table that cannot be read without a guess.
    """
    stopping.check(tolerance, level, validation_fraction=1)
    tidy = read_table(table, percent)
    compared = {name: read_table(other, percent) for name, other in (others or {}).items()}
    deep, found = depth(tidy), mean_valley(tidy)
    verdict = judge("sdd-with-noise", deep, "", "")["verdict"]
    if "best_epoch" in tidy:
        compared |= _by_epochs(tidy)
    return Advice(
        table=tidy,
        double_descent=ANSWERS[verdict],
        depth=deep,
        valley=found,
        further=_further(tidy, found),
        phases=_phases(tidy),
        outcomes=_outcomes(tidy, tolerance, level),
        stop=_stop(tidy, tolerance),
        tolerance=tolerance,
        changes=tuple(_change(name, tidy, other, tolerance) for name, other in compared.items()),
        unknown=tuple(_unknown(tidy, bool(others))),
    )


def _outcomes(table: pd.DataFrame, tolerance: float, level: float) -> pd.DataFrame:
    """The outcomes of the rules that use no test data; no rows without validation accuracy."""
    if "validation_accuracy" not in table:
        return pd.DataFrame()
    found = stopping.outcomes(table, tolerance, level)
    return found[found["rule"] != stopping.ORACLE]


def _stop(table: pd.DataFrame, tolerance: float) -> int | None:
    """The round to take, by the mean validation curve."""
    if "validation_accuracy" not in table:
        return None
    mean = by_seed(table, "validation_accuracy").mean(0)
    return stopping.taken(mean, len(mean) - 1, tolerance)


def _by_epochs(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The same run, had its trainings been stopped at their best epoch by validation accuracy."""
    best = {name: table[f"best_epoch_{name}"] for name in ("validation_accuracy", "test_accuracy")}
    stopped = table.assign(**best)
    return {BEST_EPOCHS: stopped, BEST_DENSE_EPOCH: stopped[stopped["round"] == 0]}


def _change(name: str, table: pd.DataFrame, other: pd.DataFrame, tolerance: float) -> Change:
    stops = [_stop(each, tolerance) for each in (other, table)]
    if None in stops:
        gain = nothing("no validation accuracy")
    elif not set(table["seed"]) & set(other["seed"]):
        gain = nothing("no seed in common")
    else:
        taken = (each[each["round"] == stop] for each, stop in zip((other, table), stops, strict=True))
        gain = stopping.advantage(*taken, "test_accuracy")
    if other["round"].max() == 0:
        return Change(name, nothing("not pruned"), nothing("not pruned"), gain)
    return Change(name, depth(other), depth_difference(table, other), gain)


def _further(table: pd.DataFrame, found: Valley) -> dict[float, Interval]:
    """Other valleys, between the places of the deepest one, by the sparsity of their bottom.

    They are those whose whole interval exceeds 2 points or, with too few seeds for an interval, whose depth does.
    """
    if found.bottom is None:
        return {}
    valleys, last = {}, table["round"].max()
    for first, end in pairwise([0, found.shoulder, found.bottom, found.peak, last]):
        part = table[table["round"].between(first, end)]
        inner, deep = mean_valley(part), depth(part)
        if inner.bottom is not None and (deep.value if np.isnan(deep.low) else deep.low) > 100 * CLEAR:
            valleys[sorted(part["sparsity"].unique())[inner.bottom]] = deep
    return valleys


def _phases(table: pd.DataFrame) -> pd.DataFrame:
    """The phase of each sparsity, with the seeds' agreement. Without train accuracy, test accuracy stands in for it."""
    test = by_seed(table)
    train = by_seed(table, "train_accuracy") if "train_accuracy" in table else test
    names = phases(train.mean(0), test.mean(0), window=window(table))
    own = [phases(*both, window=window(table)) for both in zip(train, test, strict=True)]
    agreement = (np.array(own) == np.array(names)).mean(0)
    return pd.DataFrame({"sparsity": sorted(table["sparsity"].unique()), "phase": names, "agreement": agreement})


def _unknown(table: pd.DataFrame, compared: bool) -> Iterator[str]:
    """What the table cannot answer, and why."""
    seeds, rounds, least = table["seed"].nunique(), table["round"].max() + 1, table["sparsity"].min()
    if seeds < FEWEST_TO_JUDGE:
        yield (
            f"Whether another seed would show the same: the table has {_counted(seeds, 'seed')}, and a verdict needs "
            f"{FEWEST_TO_JUDGE}. Single curves rise and fall by chance."
        )
    if rounds < 3:
        yield f"Whether there is a valley: a valley needs three sparsities, and the table has {rounds}."
    if least > 0.01:
        yield f"How the dense network does: the least sparse network, taken for it, has {least:.1%} sparsity."
    if "validation_accuracy" not in table:
        yield (
            "Where to stop: a rule must choose by validation accuracy, and there is none. To choose by test accuracy "
            "would report a lucky round as if it were a good one."
        )
    if "train_accuracy" not in table:
        yield "Where the network can no longer fit its labels: there is no train accuracy."
    if "best_epoch" not in table and "validation_accuracy" in table:
        yield "What stopping by epochs would change: there is no row for each epoch."
    if not compared:
        yield "What weight decay or distillation would change: only training shows it."


def _about_valley(advice: Advice) -> list[str]:
    deep, story = advice.depth, in_words(advice.phases["sparsity"].tolist(), by_seed(advice.table).mean(0))
    lines = [
        f"{advice.double_descent.capitalize()}. The valley of the test curve is {deep:.1f} points deep "
        f"({_counted(deep.seeds, 'seed')}). It counts from {100 * CLEAR:g} points up.",
        f"{'The mean curve: ' if deep.seeds > 1 else ''}{story}.".capitalize(),
    ]
    for sparsity, other in advice.further.items():
        lines.append(f"Another valley has its bottom at {sparsity:.2%} sparsity: {other:.1f} points deep.")
    return lines


def _about_phases(advice: Advice) -> list[str]:
    lines, begins = [], advice.phases["phase"] != advice.phases["phase"].shift()
    for _, rows in advice.phases.groupby(begins.cumsum()):
        span = " to ".join(f"{sparsity:.2%}" for sparsity in rows["sparsity"].iloc[[0, -1]].unique())
        agree = f" (by their own curves, {rows['agreement'].mean():.0%} of the seeds agree)"
        lines.append(f"{rows['phase'].iloc[0].capitalize()}: {span} sparsity{agree if advice.depth.seeds > 1 else ''}.")
    return lines


def _about_stopping(advice: Advice) -> list[str]:
    if advice.stop is None:
        return []
    at, table, rules = advice.phases.iloc[advice.stop], advice.table, advice.outcomes
    taken = table[table["round"] == advice.stop]
    own, early = (rules[rules["rule"] == rule] for rule in (stopping.NEVER, stopping.EARLY))
    best, tested = 100 * by_seed(table).mean(0).max(), over_seeds(100 * taken["test_accuracy"].to_numpy())
    within = f"within {_counted(100 * advice.tolerance, 'point')} of the best"
    lines = [
        f"At {at['sparsity']:.2%} sparsity, in the {at['phase']} phase: the sparsest network whose validation accuracy "
        f"is {within}.",
        f"Its test accuracy is {tested:.1f}%, {best - tested.value:.1f} points below the highest of the curve.",
        f"An early stop, where validation accuracy is not {within.removesuffix('the best')}the dense network's, ends "
        f"after {early['trainings'].mean():.3g} of {len(advice.phases)} trainings at {early['sparsity'].mean():.2%} "
        f"sparsity. On it, the network above gains {stopping.advantage(taken, early, 'test_accuracy'):+.1f} points of "
        "test accuracy.",
    ]
    if advice.stop == len(advice.phases) - 1:
        lines.append("It is the sparsest network of the table: one that is pruned further may do as well.")
    if len(taken) == 1:
        return [*lines, "How sure that is cannot be known from one seed."]
    span = " to ".join(f"{sparsity:.2%}" for sparsity in (own["sparsity"].min(), own["sparsity"].max()))
    return [*lines, f"By the same rule, each seed by itself would take {span} sparsity."]


def _counted(number: float, what: str) -> str:
    return f"{number:g} {what}{'' if number == 1 else 's'}"

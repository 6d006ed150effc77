"""Means over seeds and other statistics of them, with 95% intervals."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import DegenerateDataWarning, bootstrap, chi2
from scipy.stats import nct as noncentral
from scipy.stats import t as student

FEWEST_SEEDS = 3  # for the interval of a mean
FEWEST_TO_RESAMPLE = 10  # seeds, for a bootstrap interval


@dataclass(frozen=True)
class Interval:
    """A value over seeds and its 95% interval.

    ``value`` is nan if there is nothing to measure, and ``low`` and ``high`` are nan if there are too few seeds for an
    interval; ``reason`` says why. ``seeds`` is the number of seeds and ``error`` the standard error of the value.
    ``gate`` is the probability that a repeat measures the value at all, if `where_certain` decides that.
    """

    value: float
    low: float
    high: float
    seeds: int = 0
    error: float = np.nan
    reason: str = ""
    gate: float = 1.0

    def __format__(self, form: str) -> str:
        """The value and its interval, each number in the format ``form``: for example ``9.9 [0.0, 20.8]``."""
        value, low, high = (_format(number, form) for number in (self.value, self.low, self.high))
        if np.isnan(self.value):
            return "–"
        return value if np.isnan(self.low) else f"{value} [{low}, {high}]"


def _format(number: float, form: str) -> str:
    """With a true minus sign, and none before a number that is rounded to 0."""
    text = format(number, form).replace("-", "−")
    return text if any(digit in text for digit in "123456789") else text.replace("−", "")


def nothing(reason: str) -> Interval:
    """The interval of a quantity that was not measured, for a ``reason``."""
    return Interval(np.nan, np.nan, np.nan, reason=reason)


NOTHING = nothing("not run")


def least_certain(found: Sequence[Interval], threshold: float) -> Interval:
    """Of several readings of one effect, the one that says least about the side of the ``threshold`` it lies on.

    A verdict on it is that of all readings. There is nothing to measure where one reading lies wholly above the
    threshold and another wholly below.
    """
    if any(one.low > threshold for one in found) and any(one.high < threshold for one in found):
        return nothing("the readings contradict each other")
    without = [one for one in found if np.isnan(one.low)]
    return without[0] if without else min(found, key=lambda one: max(one.low - threshold, threshold - one.high))


def repeat_probability(found: Interval, threshold: float) -> float:
    """The probability that a repeat with as many other seeds has its interval on the same side of the ``threshold``.

    Both the repeat's mean and its standard error differ from those found here. Their predictive distribution follows
    from these under a flat prior for the true mean and the logarithm of the true variance. The probability is 0 if the
    interval found contains the threshold, or if all seeds have the same value, because then nothing is known of how
    they vary.
    """
    if found.low <= threshold <= found.high or not found.error > 0:
        return 0.0
    free, distance = found.seeds - 1, abs(found.value - threshold) / found.error
    variances = chi2.ppf((np.arange(200) + 0.5) / 200, free) / free
    shifts = np.minimum(distance * np.sqrt(variances / 2), 30)  # farther away, the probability is 1
    return found.gate * float(noncentral.sf(student.ppf(0.975, free) / np.sqrt(2), free, shifts).mean())


def where_certain(found: Interval, valley: Interval, reason: str, threshold: float = 2) -> Interval:
    """``found`` where the whole interval of a ``valley`` lies above the ``threshold``; nothing, for a ``reason``,
    elsewhere."""
    if not valley.low > threshold:
        return nothing(reason)
    return replace(found, gate=repeat_probability(valley, threshold))


def half_width(std: Any, count: Any) -> np.ndarray:
    """Half the width of Student's 95% t-interval for the mean of ``count`` values with standard deviation ``std``.

    Both may be arrays. The result is nan where there are fewer than `FEWEST_SEEDS` values.
    """
    count = np.asarray(count, dtype=float)
    half = student.ppf(0.975, np.maximum(count - 1, 1)) * std / np.sqrt(np.maximum(count, 1))
    return np.where(count >= FEWEST_SEEDS, half, np.nan)


def over_seeds(values: np.ndarray, statistic: Callable[[np.ndarray], float] = float) -> Interval:
    """A statistic of the mean of ``values`` (seeds, …) over seeds, with its 95% interval.

    By default ``values`` are one number for each seed, the statistic is their mean, and the interval is Student's t.
    The interval of any other ``statistic`` of the mean is a percentile bootstrap over seeds. With few seeds that would
    be too narrow (it covers 72% with 3 seeds and 89% with 10), so it is given only from `FEWEST_TO_RESAMPLE` seeds up.
    """
    seeds = len(values)
    value = float(statistic(values.mean(0))) if seeds else np.nan
    if np.isnan(value):
        return nothing("not measured")
    fewest, reason = FEWEST_SEEDS, "too few seeds"
    if statistic is not float:
        fewest, reason = FEWEST_TO_RESAMPLE, f"too few seeds: {FEWEST_TO_RESAMPLE} are needed"
    if seeds < fewest:
        return Interval(value, np.nan, np.nan, seeds, reason=reason)
    if statistic is float:
        std = values.std(ddof=1)
        half = float(half_width(std, seeds))
        return Interval(value, value - half, value + half, seeds, float(std / np.sqrt(seeds)))
    return _resampled(values, statistic, value)


def _resampled(values: np.ndarray, statistic: Callable[[np.ndarray], float], value: float) -> Interval:
    """``value`` with the percentile bootstrap interval of 1000 resamples of the seeds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # if a resample has no value, there are no bounds
        found = bootstrap(
            (np.arange(len(values)),),
            lambda chosen, axis: np.array([float(statistic(mean)) for mean in values[chosen].mean(1)]),
            vectorized=True,
            n_resamples=1000,
            method="percentile",
            rng=np.random.default_rng(0),
        )
    low, high = map(float, found.confidence_interval)
    reason = "undefined for some resamples" if np.isnan(low) else ""
    return Interval(value, low, high, len(values), float(found.standard_error), reason)


def unit(table: pd.DataFrame) -> str | None:
    """The column that tells independent repetitions apart, ``seed`` or ``repeat``, if the table has one."""
    return next((column for column in ("seed", "repeat") if column in table), None)


def means(table: pd.DataFrame, by: Sequence[str], measure: str) -> pd.DataFrame:
    """The mean of a measure with its t-interval, a row for each value of the columns ``by``, in ascending order.

    Rows of one seed (or ``repeat``) are averaged first, so that ``count`` is a number of independent repetitions.
    Besides ``by``, the columns are ``mean``, ``low``, ``high`` and ``count``. Missing values are left out.
    """
    if column := unit(table):
        table = table.groupby([*by, column], as_index=False)[measure].mean()
    found = table.groupby(list(by))[measure].agg(["mean", "std", "count"]).reset_index()
    half = half_width(found.pop("std"), found["count"])
    return found.assign(low=found["mean"] - half, high=found["mean"] + half)


def speed_up(times: pd.DataFrame, slow: str, fast: str) -> Interval:
    """How many times faster the way ``fast`` is than ``slow``: the mean of the repeats' ratios, with its interval.

    ``times`` has the columns ``way``, ``repeat`` and ``seconds``, as `dsdlib.study.performance.race` returns them.
    """
    pairs = times.pivot(index="repeat", columns="way", values="seconds")
    return over_seeds((pairs[slow] / pairs[fast]).to_numpy())

"""A paper's claim → what was measured, its effect with an interval over seeds, and a verdict."""

from dataclasses import asdict, dataclass
from math import floor, isfinite, log10
from typing import Any, Literal

from dsdlib.analysis.seeds import Interval

DSD2, ANTIDOTE = "Quétu & Tartaglione 2024", "Quétu & Milovanović 2023"


HE, CHANG = "He et al. 2022", "Chang et al. 2021"


OURS = "a question of this study"


Verdict = Literal["supported", "contradicted", "inconclusive", "not measured"]


@dataclass(frozen=True)
class Claim:
    """One row of the claims' table. ``effect``, ``low`` and ``high`` are None where there is no number."""

    statement: str
    paper: str
    dataset: str
    measured: str
    effect: float | None
    low: float | None
    high: float | None
    unit: str
    threshold: str
    verdict: Verdict

    def as_dict(self) -> dict[str, str | float | None]:
        return asdict(self)


def judge(
    statement: str,
    *,
    paper: str,
    dataset: str,
    measured: str,
    effect: Interval,
    expected: Literal["above", "below"],
    threshold: float,
    unit: str = "points",
) -> Claim:
    """The verdict on a claim that an effect lies above or below a threshold, set before the result is known.

    supported: the whole 95% interval lies on the expected side; contradicted: all of it on the other; else, and
    without an interval (a single seed), inconclusive; not measured: the profile has no runs that could tell.
    """
    numbers = [n if isfinite(n) else None for n in (effect.value, effect.low, effect.high)]
    verdict: Verdict = "not measured" if numbers[0] is None else "inconclusive"
    if None not in numbers:
        above, below = effect.low > threshold, effect.high < threshold
        if above or below:
            verdict = "supported" if above == (expected == "above") else "contradicted"
    return Claim(statement, paper, dataset, measured, *numbers, unit, f"{expected} {threshold:g} {unit}", verdict)


def effect(claim: dict[str, Any]) -> str:
    """For example `−15.9 points [−18.2, −13.4]`: three figures of the largest, and two decimals at most."""
    numbers = [claim.get(key) for key in ("effect", "low", "high")]
    largest = max((abs(number) for number in numbers if number is not None), default=0)
    digits = max(0, 2 - floor(log10(largest))) if largest else 0
    digits = min(digits, 2) if largest >= 0.01 else digits
    texts = ("?" if number is None else f"{number:z.{digits}f}" for number in numbers)
    value, low, high = (text.replace("-", "−") for text in texts)
    if value == "?":
        return "—"
    interval = "" if (low, high) == ("?", "?") else f" [{low},\N{NO-BREAK SPACE}{high}]"
    return f"{value} {claim.get('unit', '')}".strip() + interval

"""Claims: what was measured for each, its effect with an interval over seeds, and a verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import floor, isfinite, log10
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
from scipy.stats import false_discovery_control
from scipy.stats import t as student

from dsdlib.analysis.intervals import Interval

DSD2, ANTIDOTE = "Quétu & Tartaglione 2024", "Quétu & Milovanović 2023"
HE, CHANG = "He et al. 2022", "Chang et al. 2021"
OURS = "a question of this study"

Verdict = Literal["supported", "does not hold here", "contradicted", "undecided", "nothing to judge"]
SUPPORTED, ABSENT, CONTRADICTED, UNDECIDED, NOTHING_TO_JUDGE = VERDICTS = Verdict.__args__
FEWEST_TO_JUDGE = 5  # seeds


@dataclass(frozen=True)
class Claim:
    """One row of the claims' table. ``effect``, ``low``, ``high`` and ``p`` are None where there is no number.

    ``reason`` says why there is nothing to judge. ``own_setting`` says whether the runs repeat the paper's own setting.
    ``p`` is the two-sided p-value of the effect against the threshold.
    """

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
    reason: str
    own_setting: bool
    seeds: int
    p: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class About(TypedDict):
    """Whose claim it is, on which data it was tested, and what was measured."""

    paper: str
    dataset: str
    measured: str


def judge(
    statement: str,
    *,
    effect: Interval,
    expected: Literal["above", "below"],
    threshold: float,
    unit: str = "points",
    reason: str = "",
    own_setting: bool = False,
    **about: Unpack[About],
) -> Claim:
    """The verdict on a claim that an ``effect`` lies above or below a ``threshold``, which is set beforehand.

    The claim is *supported* if the whole 95% interval lies on the ``expected`` side of the threshold. It *does not hold
    here* if the whole interval lies on the other side; in the paper's own setting (``own_setting``) it is
    *contradicted*. It is *undecided* if the interval contains the threshold. There is *nothing to judge* if the effect
    was not measured or has no interval, or if it has fewer than `FEWEST_TO_JUDGE` seeds. The ``reason`` for an effect
    that was not measured is the effect's own unless one is given. ``about`` are the fields of `About`.
    """
    numbers = [n if isfinite(n) else None for n in (effect.value, effect.low, effect.high)]
    verdict, why = NOTHING_TO_JUDGE, ""
    if numbers[0] is None:
        why = reason or effect.reason or "not run"
    elif None in numbers or effect.seeds < FEWEST_TO_JUDGE:
        why = effect.reason or "too few seeds"
    else:
        verdict = _verdict(effect, threshold, expected, own_setting)
    return Claim(
        statement,
        **about,
        **dict(zip(("effect", "low", "high"), numbers, strict=True)),
        unit=unit,
        threshold=f"{expected} {threshold:g} {unit}".strip(),
        verdict=verdict,
        reason=why,
        own_setting=own_setting,
        seeds=effect.seeds,
        p=None if why else _p_value(effect, threshold),
    )


def _verdict(effect: Interval, threshold: float, expected: str, own_setting: bool) -> Verdict:
    above, below = effect.low > threshold, effect.high < threshold
    if not (above or below):
        return UNDECIDED
    if above == (expected == "above"):
        return SUPPORTED
    return CONTRADICTED if own_setting else ABSENT


def _p_value(effect: Interval, threshold: float) -> float:
    """The two-sided p-value of Student's t-test of the effect against the threshold."""
    distance = abs(effect.value - threshold)
    if not effect.error > 0:
        return float(distance == 0)
    return float(2 * student.sf(distance / effect.error, effect.seeds - 1))


def decided(claim: dict[str, Any]) -> bool:
    """Whether the verdict on a claim (`Claim.as_dict`) says that it holds or that it does not."""
    return claim["verdict"] in (SUPPORTED, ABSENT, CONTRADICTED)


def fragile(claims: Sequence[dict[str, Any]]) -> list[bool]:
    """Which of the claims (`Claim.as_dict`) have a verdict that control of the false discovery rate would not keep.

    The Benjamini–Hochberg procedure at 5% is applied to the p-values of all claims that were judged. Verdicts are not
    changed by it.
    """
    tested = [n for n, claim in enumerate(claims) if claim.get("p") is not None]
    adjusted = np.ones(len(claims))
    if tested:
        adjusted[tested] = false_discovery_control([claims[n]["p"] for n in tested], method="bh")
    return [decided(claim) and bool(p > 0.05) for claim, p in zip(claims, adjusted, strict=True)]


def wrong_by_chance(claims: Sequence[dict[str, Any]]) -> float:
    """How many verdicts would be wrong by chance, on average, if every effect lay at its threshold.

    An interval of 95% then lies wholly on the wrong side of the threshold with a probability of 2.5%. Elsewhere that is
    less likely, so that this is the largest number to expect.
    """
    return 0.025 * sum(claim.get("p") is not None for claim in claims)


def effect(claim: dict[str, Any]) -> str:
    """The effect of a claim in words, with three digits of its largest number and at most two decimals.

    For example ``−15.9 points [−18.2, −13.4]``.
    """
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

"""Claims: what was measured for each, its effect with an interval over seeds, and a verdict.

`claims.yaml` has every claim that is judged, with its threshold. Notebooks give the effects, by a claim's id.
"""

from collections.abc import Mapping, Sequence
from math import floor, isfinite, log10
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field
from scipy.stats import false_discovery_control
from scipy.stats import t as student

from dsdlib.analysis.intervals import Interval, repeat_probability
from dsdlib.config import ConfigError, RunConfig, suggestion

Verdict = Literal["supported", "does not hold here", "contradicted", "undecided", "nothing to judge"]
SUPPORTED, ABSENT, CONTRADICTED, UNDECIDED, NOTHING_TO_JUDGE = VERDICTS = Verdict.__args__
FEWEST_TO_JUDGE = 5  # seeds
FIRM = 0.99  # a verdict is fragile if a repeat gives it again with a lower probability
Text = Annotated[str, Field(min_length=1)]


class Claim(BaseModel):
    """A claim, without any result: one entry of `claims.yaml`.

    ``statistic`` is what is measured, in words. The claim is supported where it lies on the side ``direction`` of
    ``threshold``, in ``unit``. ``gate`` says when there is nothing to judge. ``part`` is the heading of the notebook's
    part whose first figure shows the claim. ``hypothesis`` is ``paper``, or ``ours`` for a hypothesis of this study.
    ``own_setting`` has the settings in which the paper itself made the claim. Each is a mapping from fields of
    `RunConfig` to the values that they may have; there are none where the paper's recipe is not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    statement: Text
    paper: Text
    section: Text
    statistic: Text
    direction: Literal["above", "below"]
    threshold: float
    unit: Literal["points", "rounds", "steps", "%", "nats", ""]
    gate: Text
    part: Text
    hypothesis: Literal["paper", "ours"] = "paper"
    own_setting: tuple[dict[str, list[Any]], ...] = ()

    def is_own_setting(self, config: RunConfig) -> bool:
        """Whether runs of this configuration repeat a setting of the paper."""
        fields = config.model_dump(mode="json")
        return any(all(fields[name] in values for name, values in own.items()) for own in self.own_setting)


def _read(path: Path) -> dict[str, Claim]:
    listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    found = {}
    for name, claim in listed["claims"].items():
        own = [listed["settings"][setting] for setting in claim.pop("own_setting", [])]
        found[name] = Claim(id=name, own_setting=own, **claim)
    return found


CLAIMS = _read(Path(__file__).with_name("claims.yaml"))


def judge(name: str, effect: Interval, runs: RunConfig | str, where: str) -> dict[str, Any]:
    """A row of the claims' table: the claim called ``name``, its ``effect`` and the verdict on it.

    ``runs`` is the configuration of the runs that were measured, or the name of the data if there were no runs.
    ``where`` says in words which of the runs they were and what they were compared with.

    The claim is *supported* if the whole 95% interval lies on the claim's side of its threshold. It *does not hold
    here* if the whole interval lies on the other side; in the paper's own setting it is *contradicted*. It is
    *undecided* if the interval contains the threshold. There is *nothing to judge* if the effect was not measured or
    has no interval, or if it has fewer than `FEWEST_TO_JUDGE` seeds. Raises `ConfigError` for a claim that is not in
    `CLAIMS`.

    The row has the claim's ``id``, ``statement``, ``paper``, ``section``, ``hypothesis``, ``statistic``, ``direction``,
    ``threshold``, ``unit`` and ``part``; ``dataset`` and ``where``; ``effect``, ``low`` and ``high``, which are None
    where there is no number; the ``verdict``, and the ``reason`` if there is nothing to judge; whether this is the
    paper's ``own_setting``; the number of ``seeds``; ``p``, the two-sided p-value of the effect against the threshold;
    and ``repeat``, the probability that a repeat with other seeds gives the same verdict, if there is one.
    """
    if name not in CLAIMS:
        raise ConfigError(f"claim {name!r}: not in claims.yaml{suggestion(name, CLAIMS)}")
    claim, trained = CLAIMS[name], isinstance(runs, RunConfig)
    own_setting = trained and claim.is_own_setting(runs)
    numbers = [n if isfinite(n) else None for n in (effect.value, effect.low, effect.high)]
    reason = _why_not(effect)
    verdict = NOTHING_TO_JUDGE if reason else _verdict(effect, claim, own_setting)
    return {
        **claim.model_dump(exclude={"gate", "own_setting"}),
        "dataset": runs.dataset if trained else runs,
        "where": where,
        **dict(zip(("effect", "low", "high"), numbers, strict=True)),
        "verdict": verdict,
        "reason": reason,
        "own_setting": own_setting,
        "seeds": effect.seeds,
        "p": None if reason else _p_value(effect, claim.threshold),
        "repeat": None if verdict in (UNDECIDED, NOTHING_TO_JUDGE) else repeat_probability(effect, claim.threshold),
    }


def _why_not(effect: Interval) -> str:
    """Why there is nothing to judge, or "" if there is."""
    if not isfinite(effect.value):
        return effect.reason or "not run"
    if not (isfinite(effect.low) and isfinite(effect.high)) or effect.seeds < FEWEST_TO_JUDGE:
        return effect.reason or f"too few seeds: {FEWEST_TO_JUDGE} are needed"
    return ""


def _verdict(effect: Interval, claim: Claim, own_setting: bool) -> Verdict:
    above, below = effect.low > claim.threshold, effect.high < claim.threshold
    if not (above or below):
        return UNDECIDED
    if above == (claim.direction == "above"):
        return SUPPORTED
    return CONTRADICTED if own_setting else ABSENT


def _p_value(effect: Interval, threshold: float) -> float:
    """The two-sided p-value of Student's t-test of the effect against the threshold."""
    distance = abs(effect.value - threshold)
    if not effect.error > 0:
        return float(distance == 0)
    return float(2 * student.sf(distance / effect.error, effect.seeds - 1))


def decided(claim: Mapping[str, Any]) -> bool:
    """Whether the verdict on a claim (a row of `judge`) says that it holds or that it does not."""
    return claim["verdict"] in (SUPPORTED, ABSENT, CONTRADICTED)


def fragile(claims: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Which of the claims (rows of `judge`) have a verdict that another set of seeds may well change.

    These are the verdicts that a ``repeat`` gives again with a probability of less than `FIRM`, and those that control
    of the false discovery rate would not keep: the Benjamini–Hochberg procedure at 5%, applied to the p-values of all
    claims that were judged. A report has about a hundred verdicts, so that at most about one of those that are not
    fragile is expected to change. Verdicts are not changed by it.
    """
    tested = [n for n, claim in enumerate(claims) if claim.get("p") is not None]
    adjusted = np.ones(len(claims))
    if tested:
        adjusted[tested] = false_discovery_control([claims[n]["p"] for n in tested], method="bh")
    pairs = zip(claims, adjusted, strict=True)
    return [decided(claim) and bool(claim.get("repeat", 1) < FIRM or p > 0.05) for claim, p in pairs]


def wrong_by_chance(claims: Sequence[Mapping[str, Any]]) -> float:
    """How many verdicts would be wrong by chance, on average, if every effect lay at its threshold.

    An interval of 95% then lies wholly on the wrong side of the threshold with a probability of 2.5%. Elsewhere that is
    less likely, so that this is the largest number to expect.
    """
    return 0.025 * sum(claim.get("p") is not None for claim in claims)


def effect(claim: Mapping[str, Any]) -> str:
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


def threshold(claim: Mapping[str, Any]) -> str:
    """Where a claim expects its effect, in words: ``above 2 points``."""
    return f"{claim['direction']} {claim['threshold']:g} {claim['unit']}".strip()

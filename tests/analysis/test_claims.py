"""Verdicts by hand and by property, and how many of them chance would make."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dsdlib.analysis import NOTHING, Interval, nothing, over_seeds
from dsdlib.analysis.claims import VERDICTS, decided, effect, fragile, judge, wrong_by_chance

NAN = float("nan")
ABOUT = {"paper": "p", "dataset": "d", "measured": "m"}


def verdict(found, expected="above", threshold=1, **more):
    return judge("s", effect=found, expected=expected, threshold=threshold, **more, **ABOUT)


@pytest.mark.parametrize(
    ("numbers", "above", "below"),
    [
        ((5, 3, 7), "supported", "does not hold here"),
        ((0.5, 0.1, 0.9), "does not hold here", "supported"),
        ((2, 0.5, 3), "undecided", "undecided"),
        ((2, 1, 3), "undecided", "undecided"),  # the bound is the threshold itself
        ((0.5, 0, 1), "undecided", "undecided"),
    ],
)
def test_verdicts(numbers, above, below):
    found = Interval(*numbers, seeds=5, error=1)
    for expected, said in (("above", above), ("below", below)):
        claim = verdict(found, expected)
        assert claim.verdict == said and claim.reason == ""
        assert claim.threshold == f"{expected} 1 points"
        assert [claim.as_dict()[name] for name in ("effect", "low", "high", "seeds")] == [*numbers, 5]
        own = verdict(found, expected, own_setting=True)
        assert own.verdict == said.replace("does not hold here", "contradicted") and own.own_setting


@pytest.mark.parametrize(
    ("found", "given", "reason"),
    [
        (Interval(5, 3, 7, seeds=4, error=0.5), "", "too few seeds"),
        (Interval(5, NAN, NAN, seeds=2, reason="too few seeds"), "", "too few seeds"),
        (Interval(5, NAN, NAN, seeds=12, reason="undefined for some resamples"), "", "undefined for some resamples"),
        (NOTHING, "", "not run"),
        (NOTHING, "no valley to dodge", "no valley to dodge"),
        (nothing("labels not fitted"), "", "labels not fitted"),
    ],
)
def test_there_may_be_nothing_to_judge(found, given, reason):
    claim = verdict(found, reason=given)
    assert (claim.verdict, claim.reason, claim.p) == ("nothing to judge", reason, None)
    assert claim.effect == (None if found.value != found.value else found.value)


def test_a_reason_does_not_silence_a_measured_effect():
    assert verdict(Interval(5, 3, 7, seeds=5, error=1), reason="no valley to dodge").verdict == "supported"


def test_what_a_claim_is_about_must_be_complete():
    with pytest.raises(TypeError, match="measured"):
        judge("s", effect=NOTHING, expected="above", threshold=1, paper="p", dataset="d")


@given(st.lists(st.floats(-10, 10), min_size=5, max_size=12), st.floats(-5, 5), st.sampled_from(["above", "below"]))
@settings(max_examples=100, deadline=None)
def test_a_verdict_is_decided_where_students_test_is_significant(values, threshold, expected):
    values = np.array(values)
    claim = verdict(over_seeds(values), expected, threshold)
    if values.std() > 1e-6:
        own = stats.ttest_1samp(values, threshold).pvalue
        assert claim.p == pytest.approx(own, abs=1e-9)
        if abs(own - 0.05) > 1e-9:
            assert decided(claim.as_dict()) == (own < 0.05)
    assert (claim.verdict == "supported") <= ((values.mean() > threshold) == (expected == "above"))


def test_an_effect_without_variance_is_certain():
    assert verdict(Interval(5, 5, 5, seeds=5, error=0)).p == 0
    assert verdict(Interval(1, 1, 1, seeds=5, error=0)).p == 1


def claims(*ps):
    return [{"verdict": "supported" if p < 0.05 else "undecided", "p": p} for p in ps]


def test_fragile_verdicts_are_those_benjamini_hochberg_would_not_keep():
    """By hand: of ten p-values the k-th smallest is kept if one at or after it is at most 0.005 k."""
    ps = [0.2, 0.001, 0.012, 0.6, 0.04, 0.009, 0.03, 0.8, 0.5, 0.9]  # 0.001, 0.009 and 0.012 are kept
    assert fragile(claims(*ps)) == [p in (0.03, 0.04) for p in ps]
    assert fragile(claims(0.04)) == [False] and fragile([]) == []
    unjudged = [{"verdict": "nothing to judge", "p": None}, {"verdict": "supported"}]
    assert fragile(unjudged) == [False, True]  # a verdict without a p-value is not kept
    assert fragile([*claims(0.04), *unjudged[:1] * 9]) == [False] * 10  # what was not judged does not count


def test_what_chance_alone_decides():
    """Effects that lie at their threshold: 2.5% of the verdicts are wrong, and hardly one is not fragile."""
    rng = np.random.default_rng(0)
    rows = [verdict(over_seeds(rng.normal(1, 1, 6))).as_dict() for _ in range(4000)]
    wrong = sum(row["verdict"] == "does not hold here" for row in rows)
    assert wrong_by_chance(rows) == 100 and wrong == pytest.approx(100, abs=30)
    marks = fragile(rows)
    assert sum(decided(row) and not mark for row, mark in zip(rows, marks, strict=True)) <= 2
    assert wrong_by_chance([{"p": None}, {}]) == 0


def test_the_names_of_the_verdicts():
    assert VERDICTS == ("supported", "does not hold here", "contradicted", "undecided", "nothing to judge")


@pytest.mark.parametrize(
    ("numbers", "unit", "said"),
    [
        ((-15.93, -18.2, -13.4), "points", "−15.9 points [−18.2, −13.4]"),
        ((0.0, 0.0, 0.0), "points", "0 points [0, 0]"),
        ((123.4, 100, 150), "%", "123 % [100, 150]"),
        ((0.1234, None, None), "", "0.12"),
        ((0.0004, 0.0001, 0.0009), "nats", "0.000400 nats [0.000100, 0.000900]"),
        ((None, None, None), "points", "—"),
    ],
)
def test_effects_in_words(numbers, unit, said):
    claim = dict(zip(("effect", "low", "high"), numbers, strict=True)) | {"unit": unit}
    assert effect(claim) == said.replace(", ", ",\N{NO-BREAK SPACE}")

"""The list of claims, verdicts by hand and by property, and how many of them chance would make."""

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from dsdlib import ConfigError, RunConfig
from dsdlib.analysis import NOTHING, Interval, claims, nothing, over_seeds, where_certain
from dsdlib.analysis.claims import CLAIMS, VERDICTS, Claim, decided, effect, fragile, judge, threshold, wrong_by_chance

NAN = float("nan")
NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
OWN = {"dataset": ["mnist"], "noise_rate": [0.2, 0.4]}
# What each paper claims, as its abstract and its sections state it.
PAPERS = {
    "Quétu & Tartaglione 2024": {
        "defeats-early-stop",
        "distillation-dodges",
        "distillation-generalises",
        "distillation-cheaper",
        "entropy-falls-at-valley",
        "armed-stop-usable",
        "armed-stop-better",
    },
    "Quétu & Milovanović 2023": {"l2-softens", "l2-costs", "distillation-softens"},
    "He et al. 2022": {
        "sdd-with-noise",
        "no-sdd-without-noise",
        "overfitting-aggravated",
        "sdd-across-networks",
        "sdd-across-criteria",
        "sdd-across-retraining",
        "sdd-across-noise-types",
        "noise-critical-earlier",
        "noise-sweet-later",
        "turn-at-distance-peak",
        "accuracy-follows-distance",
        "redense-path-monotone",
        "sparser-starts-sharper",
        "flatness-does-not-explain",
        "redense-distance-follows",
        "reinit-valley-earlier",
        "reinit-peak-earlier",
        "reinit-beats-ticket",
        "best-epoch-hides",
    },
    "Chang et al. 2021": {
        "pruned-beats-informative",
        "growing-double-descent",
        "retraining-hurts",
        "retraining-helps",
        "random-features-pruned-beats-small",
        "random-features-retraining-helps",
        "wider-network-double-descent",
        "wide-pruned-beats-small",
    },
    "Arora et al. 2023": {"best-pruned-size-fixed", "pruned-better-calibrated"},
}


@pytest.fixture
def verdict(monkeypatch):
    """Judges an effect by a made-up claim, in a setting that is not the paper's own or that is."""

    def judged(found, direction="above", threshold=1, own_setting=False):
        made_up = {
            "statement": "s",
            "paper": "p",
            "section": "s",
            "statistic": "s",
            "unit": "points",
            "gate": "g",
            "part": "p",
        }
        claim = Claim(id="made-up", direction=direction, threshold=threshold, own_setting=[OWN], **made_up)
        monkeypatch.setitem(claims.CLAIMS, "made-up", claim)
        return judge("made-up", found, RunConfig(dataset="mnist", noise_rate=0.2 if own_setting else 0.3), "w")

    return judged


def judged_by_notebooks():
    """The names that stand in the notebooks' cells that judge claims."""
    for notebook in NOTEBOOKS:
        cells = json.loads(notebook.read_text())["cells"]
        sources = ["".join(cell["source"]) for cell in cells]
        last = max((n for n, source in enumerate(sources) if "## Claims" in source), default=len(cells))
        for cell, source in list(zip(cells, sources, strict=True))[last:]:
            for node in ast.walk(ast.parse(source)) if cell["cell_type"] == "code" else ():
                if isinstance(node, ast.Constant) and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", str(node.value)):
                    yield node.value


def test_every_claim_of_the_papers_is_listed():
    for paper, names in PAPERS.items():
        assert {name for name in names if name not in CLAIMS} == set()
        assert {CLAIMS[name].paper for name in names} == {paper}
        assert {CLAIMS[name].hypothesis for name in names} == {"paper"}


def test_notebooks_judge_every_listed_claim_and_no_other():
    assert set(judged_by_notebooks()) == set(CLAIMS)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_figure_stands_under_the_heading_that_a_claim_names(notebook):
    source = "\n".join("".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"])
    parts = [part.partition("\n") for part in re.split(r"^## ", source, flags=re.MULTILINE)]
    drawn = {heading for heading, _, text in parts if "show_figure(" in text}
    judged = {name for name, claim in CLAIMS.items() if f'"{name}"' in source}
    assert {name: CLAIMS[name].part for name in judged if CLAIMS[name].part not in drawn} == {}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_a_listed_claim_can_be_read_and_met(claim):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", claim.id) and claim.statement.endswith(".")
    assert not claim.statistic.endswith(".") and not claim.gate.endswith(".")
    for own in claim.own_setting:
        fields = [name for name in own if name != "validation_fraction"]
        for n in range(max(map(len, own.values()))):
            values = {name: own[name][n % len(own[name])] for name in fields}
            assert claim.is_own_setting(
                RunConfig(validation_fraction=own.get("validation_fraction", [0.1])[0], **values)
            )
        assert not claim.is_own_setting(RunConfig())


def test_a_setting_is_the_papers_own_if_all_of_its_fields_are(verdict):
    verdict(NOTHING)
    own = claims.CLAIMS["made-up"].is_own_setting
    assert own(RunConfig(dataset="mnist", noise_rate=0.4, seed=7))
    assert not own(RunConfig(dataset="digits", noise_rate=0.4)) and not own(RunConfig(dataset="mnist"))


def test_an_unknown_claim_is_refused_with_the_closest():
    with pytest.raises(ConfigError, match=r"claim 'l2-soften': not in claims.yaml \(did you mean 'l2-softens'\?\)"):
        judge("l2-soften", NOTHING, RunConfig(), "nowhere")


def test_a_row_has_what_the_report_shows():
    row = judge("l2-softens", Interval(5, 3, 7, seeds=5, error=1), RunConfig(noise_rate=0.2), "20% noise")
    listed = CLAIMS["l2-softens"]
    assert row == json.loads(json.dumps(row))
    for name in ("id", "statement", "paper", "section", "hypothesis", "statistic", "direction", "threshold", "unit"):
        assert row[name] == getattr(listed, name)
    assert [row[name] for name in ("dataset", "where", "effect", "low", "high")] == ["digits", "20% noise", 5, 3, 7]
    assert [row[name] for name in ("verdict", "reason", "own_setting", "seeds")] == ["supported", "", False, 5]
    assert threshold(row) == "above 2 points"
    assert judge("retraining-hurts", NOTHING, "Gaussian inputs", "")["dataset"] == "Gaussian inputs"


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
def test_verdicts(numbers, above, below, verdict):
    found = Interval(*numbers, seeds=5, error=1)
    for direction, said in (("above", above), ("below", below)):
        row = verdict(found, direction)
        assert row["verdict"] == said and row["reason"] == "" and not row["own_setting"]
        assert [row[name] for name in ("effect", "low", "high", "seeds")] == [*numbers, 5]
        own = verdict(found, direction, own_setting=True)
        assert own["verdict"] == said.replace("does not hold here", "contradicted") and own["own_setting"]


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (Interval(5, 3, 7, seeds=4, error=0.5), "too few seeds: 5 are needed"),
        (Interval(5, NAN, NAN, seeds=2, reason="too few seeds"), "too few seeds"),
        (Interval(5, NAN, NAN, seeds=12, reason="undefined for some resamples"), "undefined for some resamples"),
        (NOTHING, "not run"),
        (nothing("labels not fitted"), "labels not fitted"),
    ],
)
def test_there_may_be_nothing_to_judge(found, reason, verdict):
    row = verdict(found)
    assert (row["verdict"], row["reason"], row["p"]) == ("nothing to judge", reason, None)
    assert row["effect"] == (None if found.value != found.value else found.value)


@given(st.lists(st.floats(-10, 10), min_size=5, max_size=12), st.floats(-5, 5), st.sampled_from(["above", "below"]))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_verdict_is_decided_where_students_test_is_significant(verdict, values, threshold, direction):
    values = np.array(values)
    row = verdict(over_seeds(values), direction, threshold)
    if values.std() > 1e-6:
        own = stats.ttest_1samp(values, threshold).pvalue
        assert row["p"] == pytest.approx(own, abs=1e-9)
        if abs(own - 0.05) > 1e-9:
            assert decided(row) == (own < 0.05)
    assert (row["verdict"] == "supported") <= ((values.mean() > threshold) == (direction == "above"))


def test_an_effect_without_variance_is_certain(verdict):
    assert verdict(Interval(5, 5, 5, seeds=5, error=0))["p"] == 0
    assert verdict(Interval(1, 1, 1, seeds=5, error=0))["p"] == 1


def rows(*ps):
    return [{"verdict": "supported" if p < 0.05 else "undecided", "p": p} for p in ps]


def test_fragile_verdicts_are_those_benjamini_hochberg_would_not_keep():
    """By hand: of ten p-values the k-th smallest is kept if one at or after it is at most 0.005 k."""
    ps = [0.2, 0.001, 0.012, 0.6, 0.04, 0.009, 0.03, 0.8, 0.5, 0.9]  # 0.001, 0.009 and 0.012 are kept
    assert fragile(rows(*ps)) == [p in (0.03, 0.04) for p in ps]
    assert fragile(rows(0.04)) == [False] and fragile([]) == []
    unjudged = [{"verdict": "nothing to judge", "p": None}, {"verdict": "supported"}]
    assert fragile(unjudged) == [False, True]  # a verdict without a p-value is not kept
    assert fragile([*rows(0.04), *unjudged[:1] * 9]) == [False] * 10  # what was not judged does not count


def test_a_verdict_that_a_repeat_may_change_is_fragile(verdict):
    """Twelve normal seeds against a near and a far threshold: the p-value alone would keep both verdicts."""
    values = np.random.default_rng(1).normal(1, 1, 12)
    near, far = (verdict(over_seeds(values), "above", threshold) for threshold in (0, -3))
    assert near["p"] < 0.02 and decided(near) and decided(far)
    assert near["repeat"] < 0.99 < far["repeat"] and fragile([near, far]) == [True, False]
    alike = verdict(Interval(5, 5, 5, seeds=5, error=0))
    assert alike["verdict"] == "supported" and alike["repeat"] == 0 and fragile([alike]) == [True]
    assert verdict(over_seeds(values), "above", 1)["repeat"] is None
    gated = verdict(where_certain(over_seeds(values + 50), Interval(3.5, 2.1, 4.9, seeds=12, error=0.64), "", 2))
    assert gated["verdict"] == "supported" and gated["repeat"] < 0.99


def test_what_chance_alone_decides(verdict):
    """Effects that lie at their threshold: 2.5% of the verdicts are wrong, and hardly one is not fragile."""
    rng = np.random.default_rng(0)
    found = [verdict(over_seeds(rng.normal(1, 1, 6))) for _ in range(4000)]
    wrong = sum(row["verdict"] == "does not hold here" for row in found)
    assert wrong_by_chance(found) == 100 and wrong == pytest.approx(100, abs=30)
    marks = fragile(found)
    assert sum(decided(row) and not mark for row, mark in zip(found, marks, strict=True)) <= 2
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

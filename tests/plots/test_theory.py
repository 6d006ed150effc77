"""The linear problem's figures hold what its tables say, and its page where they come from."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import same_color
from scipy import stats

from dsdlib import plots, theory
from dsdlib.report.show import PROVENANCE, show_versions

pytestmark = pytest.mark.usefixtures("closed_figures")

RATIOS = (0.5, 0.8, 2.0, 5.0)
NAMES = ("magnitude", "magnitude, retrained", "informative features only")


def tables():
    """Theory, without the retrained estimator, and simulation, in which the small model does not vary."""
    rng = np.random.default_rng(0)
    rows = [
        {"estimator": name, "ratio": ratio, "repeat": repeat, "risk": value if "only" in name else rng.uniform(1, 2)}
        for name in NAMES
        for repeat, value in enumerate((1.0, 1.2, 1.7))
        for ratio in RATIOS
    ]
    simulated = pd.DataFrame(rows).sample(frac=1, random_state=0)
    lines = simulated[simulated["estimator"] != NAMES[1]].groupby(["estimator", "ratio"], as_index=False)["risk"].max()
    return lines, simulated


def shape(line):
    return [tuple(point) for point in line.get_xydata()]


def test_risks_are_lines_of_theory_and_points_of_simulation():
    lines, simulated = tables()
    ax = plots.risks(lines, simulated, "ratio", "p/n", names=NAMES)
    red = [line for line in ax.lines if same_color(line.get_color(), plots.SERIES["magnitude"].colour)]
    mean = simulated[simulated["estimator"] == "magnitude"].groupby("ratio")["risk"].mean()
    theory_line = lines[lines["estimator"] == "magnitude"].set_index("ratio")["risk"]
    drawn = [shape(line) for line in red if len(line.get_xdata())]
    for expected in (theory_line, mean):  # each broken at p = n
        for side in (expected[expected.index < 1], expected[expected.index > 1]):
            assert any(np.allclose(points, list(side.items())) for points in drawn if len(points) == len(side))
    assert all((np.array(points)[:, 0] < 1).all() or (np.array(points)[:, 0] > 1).all() for points in drawn)
    assert ax.get_yscale() == ax.get_xscale() == "log" and ax.get_xlabel() == "p/n"
    assert [text.get_text() for text in ax.texts] == ["p = n"]


def test_points_without_theory_are_joined_and_a_flat_risk_has_a_band():
    ax = plots.risks(*tables(), "ratio", "p/n", names=NAMES)
    legend = {
        text.get_text(): line for text, line in zip(ax.get_legend().texts, ax.get_legend().get_lines(), strict=True)
    }
    assert list(legend) == ["Magnitude", "Magnitude, retrained", "Informative features only"]
    styles = [(line.get_linestyle(), line.get_marker()) for line in legend.values()]
    assert styles == [("-", "o"), (":", "o"), ("-", "")]
    (band,) = [c for c in ax.collections if isinstance(c, mpl.collections.PolyCollection)]
    low, high = band.get_paths()[0].vertices[:, 1].min(), band.get_paths()[0].vertices[:, 1].max()
    own = stats.ttest_1samp([1.0, 1.2, 1.7], 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx(tuple(own))
    assert (band.get_paths()[0].vertices[:, 0].min(), band.get_paths()[0].vertices[:, 0].max()) == (0.5, 5.0)


def test_risks_against_anything_else_are_not_broken():
    lines, simulated = (t.rename(columns={"ratio": "correlation"}).assign(noise=0.3) for t in tables())
    one, other = simulated[simulated["estimator"] == "magnitude"], lines[lines["estimator"] == "magnitude"]
    ax = plots.risks(other, one, "correlation", "Correlation", hue="noise", ax=plt.subplots()[1])
    assert {len(line.get_xdata()) for line in ax.lines} == {4, 0}  # none for the legend's
    assert [text.get_text() for text in ax.get_legend().texts] == ["0.3"] and ax.get_xscale() == "linear"
    assert not ax.texts


def test_every_estimator_has_a_colour():
    linear = theory.simulate(theory.fading(12, 4, 0.3), 6, [8], 3, repeats=1)
    relu = theory.simulate_relu(4, 0.3, 6, [8], 3, repeats=1)
    assert {row["estimator"] for row in linear + relu} <= set(plots.SERIES)


def test_the_map_shows_where_pruning_wins():
    table = pd.DataFrame(
        [{"ratio": r, "kept_ratio": k, "advantage": k - 0.5} for r in (1.5, 3.0, 6.0) for k in (0.1, 0.4, 0.6, 0.9)]
    )
    ax = plots.advantages(table.sample(frac=1, random_state=0))
    border = next(c for c in ax.collections if len(c.get_array()) == 1 and c.get_array()[0] == 0)
    vertices = np.concatenate([path.vertices for path in border.get_paths()])
    assert vertices[:, 0] == pytest.approx(0.5) and vertices[:, 1].min() == 1.5 and vertices[:, 1].max() == 6.0
    assert ax.get_yscale() == "log" and ax.figure.axes[1].get_ylabel() == "Small model's risk over the pruned fit's"
    assert [text.get_text() for text in ax.figure.axes[1].get_yticklabels()] == ["¼", "½", "1", "2", "4"]


def test_agreement_is_the_mean_distance_in_percent():
    rows = [
        {"estimator": name, "features": p, "repeat": r, "distance": d / p}
        for name in ("dense", "oracle")
        for p in (60, 600)
        for r, d in enumerate((1, 2, 6))
    ]
    ax = plots.agreement(pd.DataFrame(rows))
    drawn = [container.lines[0] for container in ax.containers]
    assert all(np.allclose(shape(line), [(60, 0.05), (600, 0.005)]) for line in drawn)
    assert {line.get_color() for line in drawn} == {plots.SERIES["dense"].colour, plots.SERIES["oracle"].colour}
    assert [text.get_text() for text in ax.get_legend().texts] == ["dense", "oracle"]
    ax.figure.canvas.draw()
    assert [t.get_text() for t in ax.get_xticklabels()] == ["60", "600"] and ax.get_ylabel().endswith("(%)")
    assert "5" in [t.get_text() for t in ax.get_yticklabels()]


def test_the_page_names_what_it_was_computed_with(monkeypatch):
    shown = []
    monkeypatch.setattr("dsdlib.report.show.display", lambda bundle, raw: shown.append(bundle))
    show_versions("drawn from seed 0")
    facts = shown[0][PROVENANCE]
    assert facts["Data"] == "drawn from seed 0" and facts["Processor"] in shown[0]["text/html"]
    assert f"numpy {np.__version__}" in facts["Versions"] and "Python 3." in facts["Versions"]

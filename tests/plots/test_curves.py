"""Figures hold what the table says: lines are means over seeds, bars reach the interval, axes read as they should."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.colors import same_color, to_hex
from scipy import stats

from dsdlib import plots
from dsdlib.plots.axes import SPARSITIES

pytestmark = pytest.mark.usefixtures("closed_figures")

ROUNDS = 6
SPARSITY = 1 - 0.8 ** np.arange(ROUNDS)
MEASURES = ("test_accuracy", "train_accuracy", "train_accuracy_clean", "train_accuracy_corrupted", "entropy")


def a_table(seeds=3, **columns):
    """Tidy rows of one made-up configuration, every measure a number of its own."""
    values = np.random.default_rng(len(columns)).uniform(0.2, 0.8, (len(MEASURES), seeds, ROUNDS))
    rows = [
        {"seed": s, "round": r, "sparsity": SPARSITY[r], "remaining_weights": round(1000 * 0.8**r)}
        | {measure: values[m, s, r] for m, measure in enumerate(MEASURES)}
        | columns
        for s in range(seeds)
        for r in range(ROUNDS)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def both(name, one, other):
    """Two configurations that differ in a column."""
    return pd.concat([a_table(**{name: one}), a_table(**{name: other}, extra=0)])


def mean(table, measure, by="sparsity"):
    """The mean over seeds, point after point: (points, 2)."""
    places = sorted(table[by].unique())
    return np.array([[place, table.loc[table[by] == place, measure].to_numpy().mean()] for place in places])


def drawn(ax):
    """The lines that hold more than a place in the legend, each (points, 2)."""
    return [line.get_xydata() for line in ax.lines if len(line.get_xdata())]


def legend(ax):
    """The legend's title and labels."""
    return [ax.get_legend().get_title().get_text(), *(text.get_text() for text in ax.get_legend().texts)]


def bars(container):
    """An error bar's points (n, 2), and the ends of its bars in each direction, (n, 2, 2) each."""
    line, _, directions = container.lines
    return line.get_xydata(), [np.array(direction.get_segments()) for direction in directions]


def ticks(axis):
    """What a reader reads along an axis, by place."""
    axis.figure.canvas.draw()
    low, high = sorted(axis.get_view_interval())
    places = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
    return {round(place, 9): label.get_text() for place, label in places if low <= place <= high}


VALLEYS = pd.DataFrame(
    {
        "width": [16, 4, 8, 4],
        "Family": ["a", "a", "b", "b"],
        "depth": [0.2, 0.1, 0.05, 0.0],
        "low": [0.15, 0.02, 0.05, -0.01],
        "high": [0.22, 0.19, 0.09, 0.03],
    }
)
PHASES = pd.DataFrame(
    {
        "noise_rate": [0.2, 0.2, 0.2, 0.0],
        "phase": ["light", "critical", "collapsed", "light"],
        "begins": [0.0, 0.36, 0.8, 0.0],
        "ends": [0.36, 0.8, 0.95, 0.95],
    }
)
POINTS = pd.DataFrame(
    {
        "series": ["test", "test", "train", "other"],
        "sparsity": [0.2, 0.9, 0.2, 0.5],
        "value": [0.7, 0.6, 0.99, 0.1],
        "reading_error": [0.003, 0.01, 0.005, 0.1],
    }
)


def some_outcomes():
    """Two students' seeds where two rules stop; the first rule's seeds agree."""
    rows = [
        {"Student": student, "rule": rule, "seed": s, "train_flops": cost * 1e12, "test_accuracy": accuracy}
        for student, rule, cost, accuracies in (
            ("taught", "early stop", 1, (0.7, 0.7, 0.7)),
            ("taught", "no stop", 6, (0.8, 0.9, 0.7)),
            ("alone", "early stop", 2, (0.5, 0.5, 0.5)),
            ("alone", "no stop", 6, (0.4, 0.6, 0.8)),
        )
        for s, accuracy in enumerate(accuracies)
    ]
    return pd.DataFrame(rows)


FIGURES = {
    "parts": lambda ax: plots.parts(a_table(), ax=ax),
    "curves": lambda ax: plots.curves(both("h", 1, 2), "h", ax=ax),
    "depths": lambda ax: plots.depths(VALLEYS, "width", ax=ax),
    "phase_map": lambda ax: plots.phase_map(PHASES, "noise_rate", "Noise", ax=ax),
    "entropies": lambda ax: plots.entropies(a_table(entropy_1=0.5), ax=ax),
    "stops": lambda ax: plots.stops(some_outcomes(), "Student", ax=ax),
    "timings": lambda ax: plots.timings(both("h", 1, 2), "round", "entropy", "h", "x", "s", ax=ax),
    "against": lambda ax: plots.against(both("h", 1, 2), "round", "entropy", "h", "x", "y", ax=ax),
}


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_goes_onto_the_axes_it_is_given_or_onto_its_own(figure):
    _, (given, untouched) = plt.subplots(1, 2)
    assert FIGURES[figure](given) is given and given.has_data()
    assert not untouched.has_data() and len(plt.get_fignums()) == 1
    own = FIGURES[figure](None)
    assert own.figure is not given.figure and len(plt.get_fignums()) == 2
    own.figure.canvas.draw()


# Axes -------------------------------------------------------------------------------------------------------------


def test_even_steps_of_pruning_are_even_on_the_sparsity_axis():
    ax = plt.subplots()[1]
    plots.sparsity_axis(ax, 0.985)
    pixels = ax.transData.transform([[s, 0] for s in (0, 0.2, 0.36, 0.488, 0.5904)])[:, 0]
    assert np.diff(pixels) == pytest.approx([pixels[1] - pixels[0]] * 4) and pixels[0] < pixels[1]
    assert ax.get_xlim() == pytest.approx((0, 0.985))
    expected = {0: "0", 0.5: "50", 0.8: "80", 0.9: "90", 0.95: "95", 0.98: "98"}
    assert ticks(ax.xaxis) == expected
    plots.sparsity_axis(ax, 0.9995)
    assert list(ticks(ax.xaxis).values())[-4:] == ["99.5", "99.8", "99.9", "99.95"]


@pytest.mark.parametrize("width", [1.5, 3, 8])
@pytest.mark.parametrize(("fewest", "most"), [(4_000, 9_000), (300, 266_200), (1, 11_000_000)])
def test_labels_of_weights_do_not_collide(width, fewest, most):
    ax = plt.subplots(figsize=(width, 2))[1]
    plots.weights_axis(ax)
    ax.set_xlim(most, fewest)
    found = ticks(ax.xaxis)
    boxes = [t.get_window_extent() for t in ax.get_xticklabels() if t.get_text() in found.values()]
    assert len(found) >= (2 if most > 10_000 else 1)
    assert all(not one.overlaps(other) for one, other in pairwise(boxes))


@pytest.mark.parametrize("width", [1.2, 2, 3, 5, 8, 12])
@pytest.mark.parametrize("sparsest", [0.5, 0.95, 0.99, 0.9998])
def test_labels_of_ticks_do_not_collide_in_axes_of_any_width(width, sparsest):
    ax = plt.subplots(figsize=(width, 2))[1]
    plots.sparsity_axis(ax, sparsest)
    found = ticks(ax.xaxis)
    shown = [label for label in ax.get_xticklabels() if label.get_text() in found.values()]
    boxes = [label.get_window_extent() for label in shown]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    possible = sum(tick <= sparsest for tick in SPARSITIES)
    assert 0 in found and len(found) >= min(possible, width)  # an inch is more than a label needs


def test_fewer_weights_are_further_right():
    ax = plt.subplots()[1]
    plots.weights_axis(ax)
    ax.plot([10, 100, 1000], [1, 1, 1])
    assert ticks(ax.xaxis) == {10: "10", 20: "20", 30: "30", 50: "50", 100: "100", 200: "200", 300: "300"} | {
        500: "500",
        1000: "1k",
    }
    left, middle, right = ax.transData.transform([[w, 1] for w in (1000, 100, 10)])[:, 0]
    assert left < middle < right and middle - left == pytest.approx(right - middle)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("Test accuracy (%)", {0: "0", 0.125: "12.5", 0.25: "25"}),
        ("Gain (points)", {-0.125: "−12.5", 0: "0", 0.25: "25"}),
        ("Entropy (bits)", {0: "0.000", 0.125: "0.125", 0.25: "0.250"}),
        ("Share (%) of bits", {0: "0.000", 0.125: "0.125", 0.25: "0.250"}),
    ],
)
def test_only_percent_and_points_are_shown_in_hundredths(label, expected):
    ax = plt.subplots()[1]
    ax.set_ylim(-0.125, 0.25)
    ax.set_yticks(list(expected))
    plots.measure_axis(ax, label)
    assert ax.get_ylabel() == label
    assert ticks(ax.yaxis) == expected


def test_the_theme_holds_for_the_figures_that_follow():
    plots.set_theme()
    ax = plt.subplots()[1]
    assert ax.figure.get_size_inches().tolist() == [8, 4.8]
    assert not ax.spines["top"].get_visible() and ax.spines["left"].get_visible()


# Curves -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("series", "labels"),
    [
        ({}, ["Test", "Train (noisy labels)"]),
        ({"series": plots.MEMORISED}, ["Clean labels, learned", "Corrupted labels, memorised"]),
    ],
)
def test_parts_are_the_measures_means_over_seeds(series, labels):
    table = a_table()
    ax = plots.parts(table, **series)
    columns = list(series.get("series", plots.PARTS))
    for line, column in zip(drawn(ax), columns, strict=True):
        assert line == pytest.approx(mean(table, column))
    assert legend(ax) == ["", *labels]
    assert [line.get_linestyle() for line in ax.lines] == ["-", "--"]
    assert ax.get_xlim() == pytest.approx((0, SPARSITY[-1])) and ax.get_ylabel() == "Accuracy (%)"


@pytest.mark.parametrize("x", ["sparsity", "remaining_weights"])
def test_curves_are_means_over_seeds_within_what_the_seeds_have(x):
    table = both("noise_rate", 0.2, 0.4)
    ax = plots.curves(table, "noise_rate", "train_accuracy", "Train accuracy (%)", x=x)
    groups = [table[table["noise_rate"] == rate] for rate in (0.2, 0.4)]
    assert len(drawn(ax)) == len(ax.collections) == 2
    for line, band, group in zip(drawn(ax), ax.collections, groups, strict=True):
        assert line == pytest.approx(mean(group, "train_accuracy", x))
        for place, value in line:
            seeds = group.loc[np.isclose(group[x], place), "train_accuracy"]
            heights = [y for at, y in band.get_paths()[0].vertices if np.isclose(at, place)]
            own = stats.ttest_1samp(seeds, 0).confidence_interval(0.95)
            assert (min(heights), max(heights)) == pytest.approx(tuple(own))
            assert value == pytest.approx(seeds.mean())
    assert legend(ax) == ["Noise rate", "20%", "40%"]
    assert ax.get_ylabel() == "Train accuracy (%)"
    assert (ax.get_xscale(), ax.xaxis.get_inverted()) == (("function", False) if x == "sparsity" else ("log", True))


def test_a_band_is_students_interval_where_seeds_are_missing_too():
    table = a_table(seeds=5, h="a")
    table.loc[(table["seed"] == 0) & (table["round"] == 2), "test_accuracy"] = np.nan
    table = table[(table["seed"] == 0) | (table["round"] < ROUNDS - 1)]  # one seed at the end
    (band,) = plots.curves(table, "h").collections
    vertices = np.concatenate([path.vertices for path in band.get_paths()])
    for r in range(ROUNDS - 1):
        values = table.loc[table["round"] == r, "test_accuracy"].dropna()
        heights = vertices[np.isclose(vertices[:, 0], SPARSITY[r]), 1]
        own = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert (heights.min(), heights.max()) == pytest.approx(tuple(own)), r
    assert not np.isclose(vertices[:, 0], SPARSITY[-1]).any()  # there is no interval of one


def test_numbers_get_shades_of_one_colour_and_names_a_colour_and_a_line_style_each():
    ax = plots.curves(both("h", 0.4, 0.2), "h")
    assert [to_hex(line.get_color()) for line in ax.lines] == sns.color_palette("flare", 2).as_hex()
    assert {line.get_linestyle() for line in ax.lines} == {"-"}
    one, other = plots.curves(both("h", "a", "b"), "h").lines
    assert not same_color(one.get_color(), other.get_color()) and one.get_linestyle() != other.get_linestyle()


@pytest.mark.parametrize(("seeds", "said"), [(1, ["one seed, no interval"]), (2, ["two seeds, no interval"]), (3, [])])
def test_a_figure_of_too_few_seeds_says_so(seeds, said):
    table = a_table(seeds)
    for ax in (
        plots.parts(table),
        plots.curves(table.assign(h=1), "h"),
        plots.against(table, "round", "entropy", None, "x", "y"),
        plots.depths(VALLEYS.assign(seeds=seeds), "width"),
        plots.stops(some_outcomes()[lambda table: table["seed"] < seeds], "Student"),
    ):
        assert [text.get_text() for text in ax.texts] == said
    mixed = plots.curves(pd.concat([a_table(1, h="a"), a_table(3, h="b")]), "h")
    assert not mixed.texts  # some points have an interval


def test_entropies_have_a_line_a_layer_and_the_mean_of_the_layers():
    table = a_table(entropy_weighted=0.9)
    layers = [f"entropy_{number}" for number in range(1, 12)]
    table[layers] = np.random.default_rng(1).uniform(0, 1, (len(table), 11))
    ax = plots.entropies(table)
    lines = drawn(ax)
    assert len(lines) == 12
    for line, column in zip(lines, ["entropy", *layers], strict=True):
        assert line == pytest.approx(mean(table, column)), column
    assert legend(ax) == ["Layer", "mean", *map(str, range(1, 12))]
    assert (ax.lines[0].get_linestyle(), ax.lines[1].get_linestyle()) == ("--", "-")
    shades = sns.color_palette(plots.PALETTE, 11).as_hex()  # a layer's number is a number
    assert all(same_color(line.get_color(), shade) for line, shade in zip(ax.lines[1:12], shades, strict=True))
    assert ax.get_ylabel() == "Entropy of the neurons (bits)"


def test_a_measure_against_a_few_values():
    table = pd.concat(t.assign(λ=t["round"] / 10) for t in (a_table(Student="b"), a_table(Student="a", extra=1)))
    ax = plots.against(table, "λ", "test_accuracy", "Student", "Decay", "Gain (points)")
    for container, student in zip(ax.containers, "ba", strict=True):
        line, (segments,) = bars(container)
        part = table[table["Student"] == student]
        assert line == pytest.approx(mean(part, "test_accuracy", "λ"))
        for (place, value), segment in zip(line, segments, strict=True):
            seeds = part.loc[np.isclose(part["λ"], place), "test_accuracy"]
            assert segment[:, 0] == pytest.approx([place, place])
            own = stats.ttest_1samp(seeds, 0).confidence_interval(0.95)
            assert segment[:, 1] == pytest.approx(tuple(own)) and value == pytest.approx(seeds.mean())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Decay", "Gain (points)")
    assert legend(ax) == ["Student", "b", "a"]


def test_timings_stand_over_their_own_values_with_the_units_prefix_and_from_zero():
    times = pd.DataFrame({"runs": [1, 1, 4, 4, 16, 16], "seconds": [0.002, 0.004, 0.002, 0.002, 0.001, 0.001]})
    ax = plots.timings(times, "runs", "seconds", None, "Runs in the stack", "s")
    assert ax.lines[0].get_xydata() == pytest.approx(np.array([[1, 0.003], [4, 0.002], [16, 0.001]]))
    ax.figure.canvas.draw()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "4", "16"] and ax.get_xscale() == "log"
    assert ax.get_ylim()[0] == 0 and any(tick.get_text().endswith("ms") for tick in ax.get_yticklabels())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Runs in the stack", "Seconds a run and epoch")
    rates = plots.timings(times, "runs", "seconds", None, "Width", "FLOP/s")
    assert rates.get_ylabel() == "FLOP/s"


# Valleys, phases and points of interest -----------------------------------------------------------------------------


def test_depths_reach_from_low_to_high_at_evenly_spaced_values():
    ax = plots.depths(VALLEYS, "width", "Family")
    places = {4: 0, 8: 1, 16: 2}
    assert [container.get_label() for container in ax.containers] == ["a", "b"]
    assert ax.containers[0].lines[0].get_linestyle() != ax.containers[1].lines[0].get_linestyle()
    for container, family in zip(ax.containers, "ab", strict=True):
        part = VALLEYS[VALLEYS["Family"] == family]
        points, (ends,) = bars(container)
        at = [places[width] for width in part["width"]]
        assert points == pytest.approx(np.column_stack([at, part["depth"]]))
        assert ends == pytest.approx(np.stack([np.column_stack([at, part[end]]) for end in ("low", "high")], axis=1))
    assert ticks(ax.xaxis) == {0: "4", 1: "8", 2: "16"}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Width", "Depth of the valley (points)")
    assert legend(ax) == ["Family", "a", "b"]


def test_depths_of_names_keep_their_order_unjoined_and_need_no_interval():
    table = pd.DataFrame({"kind_of": ["z", "a"], "depth": [0.1, 0.2], "low": np.nan, "high": np.nan})
    ax = plots.depths(table, "kind_of")
    assert ticks(ax.xaxis) == {0: "z", 1: "a"} and ax.get_xlabel() == "Kind of"
    points, _ = bars(ax.containers[0])
    assert points.tolist() == [[0, 0.1], [1, 0.2]]
    assert ax.containers[0].lines[0].get_linestyle() == "None" and ax.get_legend() is None
    assert plots.depths(table, "kind_of", label="").get_xlabel() == ""


def test_the_phase_map_has_a_bar_a_phase():
    ax = plots.phase_map(PHASES, "noise_rate", "Label noise")
    found = {
        (round(bar.get_y() + bar.get_height() / 2, 9), container.get_label()): (bar.get_x(), bar.get_width())
        for container in ax.containers
        for bar in container
    }
    expected = {(0, "light"): (0, 0.95), (1, "light"): (0, 0.36), (1, "critical"): (0.36, 0.44)}
    assert found.keys() == {*expected, (1, "collapsed")}
    for place, (begin, width) in (expected | {(1, "collapsed"): (0.8, 0.15)}).items():
        assert found[place] == pytest.approx((begin, width))
    for container in ax.containers:
        assert all(same_color(bar.get_facecolor(), plots.PHASE_COLOURS[container.get_label()]) for bar in container)
    legend_colours = [patch.get_facecolor() for patch in ax.get_legend().get_patches()]
    assert all(map(same_color, legend_colours, plots.PHASE_COLOURS.values()))  # of phases without a bar as well
    assert ticks(ax.yaxis) == {0: "0%", 1: "20%"} and ax.get_ylabel() == "Label noise"
    assert ax.get_xlim() == pytest.approx((0, 0.95))


def test_shaded_phases_cover_the_axis_and_meet_half_a_step_between_their_rounds():
    ax = plt.subplots()[1]
    plots.sparsity_axis(ax, SPARSITY[-1])
    plots.shade_phases(ax, SPARSITY, ["light", "light", "critical", "critical", "critical", "collapsed"])
    ends = [0, 1 - 0.8**1.5, 1 - 0.8**4.5, SPARSITY[-1]]  # half a step of pruning is half a power
    names = ["light", "critical", "collapsed"]
    assert [text.get_text() for text in ax.texts] == names
    for band, text, name, low, high in zip(ax.patches, ax.texts, names, ends, ends[1:], strict=False):
        assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((low, high))
        assert same_color(band.get_facecolor(), plots.PHASE_COLOURS[name])
        assert low < text.get_position()[0] < high
    assert len(ax.patches) == 3


@pytest.mark.parametrize("above", [True, False])
def test_a_mark_is_a_point_with_its_name_above_or_below(above):
    ax = plt.subplots()[1]
    plots.mark(ax, 0.5, 0.6, "46%", above)
    assert drawn(ax)[0].tolist() == [[0.5, 0.6]]
    ax.figure.canvas.draw()
    box, point = ax.texts[0].get_window_extent(), ax.transData.transform((0.5, 0.6))
    assert ax.texts[0].get_text() == "46%"
    assert box.y0 > point[1] if above else box.y1 < point[1]


def test_published_points_of_the_chosen_series_lie_at_their_values():
    ax = plots.parts(a_table())
    before = len(ax.lines)
    plots.beside(ax, POINTS, {"train": "C0", "test": "C1"})
    assert [container.get_label() for container in ax.containers] == ["Published: train", "Published: test"]
    train, test = ax.containers
    assert bars(train)[0].tolist() == [[0.2, 0.99]] and bars(test)[0].tolist() == [[0.2, 0.7], [0.9, 0.6]]
    (ends,) = bars(test)[1]
    assert ends == pytest.approx(np.array([[[0.2, 0.697], [0.2, 0.703]], [[0.9, 0.59], [0.9, 0.61]]]))
    assert same_color(test.lines[0].get_color(), "C1") and test.lines[0].get_markerfacecolor() == "white"
    assert len(ax.lines) > before
    assert ax.get_xlim() == pytest.approx((0, 0.9))  # beyond our last round
    assert legend(ax)[1:] == ["Test", "Train (noisy labels)", "Published: train", "Published: test"]


def test_stops_are_marked_at_the_mean_of_each_colour_and_rule():
    outcomes = some_outcomes().sample(frac=1, random_state=1)
    outcomes = outcomes.sort_values("rule", kind="stable")
    ax = plots.stops(outcomes, "Student")
    students, rules = list(outcomes["Student"].unique()), ["early stop", "no stop"]
    means = {
        ("taught", "early stop"): (1e12, 0.7),
        ("taught", "no stop"): (6e12, 0.8),
        ("alone", "early stop"): (2e12, 0.5),
        ("alone", "no stop"): (6e12, 0.6),
    }
    colours = {name: style.colour for name, style in plots.series_styles(outcomes["Student"]).items()}
    markers = {plots.SERIES[rule].marker: rule for rule in rules}
    found = {}
    for container in ax.containers:
        points, (across, up) = bars(container)
        line = container.lines[0]
        student = next(s for s in students if same_color(line.get_markerfacecolor(), colours[s]))
        found[student, markers[line.get_marker()]] = (points, across, up)
    assert found.keys() == means.keys() and len(ax.containers) == 4
    for at, (points, across, up) in found.items():
        assert points[0] == pytest.approx(means[at])
        seeds = outcomes.set_index(["Student", "rule"]).loc[at, "test_accuracy"]
        (low, high), (left, right) = up[0, :, 1], across[0, :, 0]
        half = stats.t.ppf(0.975, 2) * stats.sem(seeds)
        assert (low, high) == pytest.approx((means[at][1] - half, means[at][1] + half))
        assert left == right == points[0, 0]  # every seed pays the same
    assert legend(ax) == ["", "Student", *students, "Rule", *rules]
    costs = ticks(ax.xaxis)
    assert len(costs) > 2 and all(label == f"{place / 1e12:g} TFLOP" for place, label in costs.items())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Training up to the stop", "Test accuracy (%)")


def test_places_are_drawn_where_the_valley_counts():
    valleys = pd.DataFrame(
        {
            "width": [10, 20, 30],
            "depth": [0.01, 0.05, 0.1],
            "bottom_sparsity": [0.5, 0.9, 0.95],
            "peak_sparsity": [0.8, 0.98, 0.99],
        }
    )
    ax = plots.places(valleys, "width")
    bottom, peak = (line.get_ydata() for line in ax.get_lines())
    assert bottom == pytest.approx([np.nan, 90, 95], nan_ok=True)
    assert peak == pytest.approx([np.nan, 98, 99], nan_ok=True)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["10", "20", "30"]


def test_lines_are_means_over_seeds_along_a_dense_axis_one_for_each_start():
    steps = np.linspace(0, 1, 5)
    rows = [
        {"Start": name, "seed": seed, "alpha": alpha, "loss": level + seed - 2 * alpha}
        for name, level in (("light", 3.0), ("sweet", 7.0))
        for seed in (0, 2)
        for alpha in steps
    ]
    ax = plots.lines(pd.DataFrame(rows), "alpha", "loss", "Start", "α", "Train loss")
    found = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == len(steps)]
    for line, level in zip(found, (3.0, 7.0), strict=True):
        np.testing.assert_allclose(line, level + 1 - 2 * steps)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("α", "Train loss")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["light", "sweet"]


def test_weights_left_are_drawn_beside_lines_of_equal_sparsity():
    means = {"Memorising ends": {1e4: 900.0, 1e5: 1000.0}, "Second peak": {1e4: 500.0, 1e5: 600.0}}
    places = {name: pd.DataFrame({x: [y - 10, y, y + 10] for x, y in ends.items()}) for name, ends in means.items()}
    ax = plots.weights_left(places)
    for (name, ends), container in zip(means.items(), ax.containers, strict=True):
        assert container.get_label() == name
        assert dict(container[0].get_xydata().tolist()) == pytest.approx(ends)
    guides = [line.get_ydata() / line.get_xdata() for line in ax.lines if line.get_linestyle() == ":"]
    assert [each.tolist() for each in guides] == [pytest.approx([d, d]) for d in (1, 0.1, 0.01, 0.001)]
    assert [text.get_text() for text in ax.texts] == ["dense", "90% sparsity", "99% sparsity"]
    assert ax.get_xscale() == ax.get_yscale() == "log"

"""The explorer without a browser: every control changes what is drawn, and what is missing is said."""

import base64
import io
import re
from pathlib import Path

import ipywidgets as w
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from dsdlib import RunConfig, analysis, sweep
from dsdlib.explorer import Explorer, explore
from dsdlib.explorer.code import as_code
from dsdlib.explorer.curves import published_points
from dsdlib.explorer.html import MOVES
from dsdlib.explorer.settings import describe
from dsdlib.study.store import Store


def text(widget: w.HTML) -> str:
    return BeautifulSoup(widget.value, "html.parser").get_text(" ")


def drawn(explorer: Explorer) -> np.ndarray:
    """The y values of the line in the figure."""
    return explorer.figure.line.get_ydata()


def show_plain(explorer: Explorer, base: RunConfig) -> None:
    explorer.controls.show(describe(base.vary(noise_rate=0.2)))


def without_teacher(store: Store, **of: object) -> np.ndarray:
    """The mean over seeds of runs without a teacher, from the store's own table."""
    table = store.table(config for config in store.configs() if config.teacher is None)
    for name, value in of.items():
        table = table[table[name] == value]
    return table.groupby("round")["test_accuracy"].mean().to_numpy()


def test_the_noise_slider_draws_the_runs_of_that_noise(explorer: Explorer, store: Store, base: RunConfig) -> None:
    show_plain(explorer, base)
    for rate in (0.0, 0.5, 0.2):
        before = explorer.plot.value
        explorer.controls.slide["noise_rate"].value = rate
        assert drawn(explorer) == pytest.approx(
            without_teacher(store, noise_rate=rate, weight_decay=1e-4, criterion="magnitude")
        )
        assert explorer.plot.value != before


def test_a_grey_option_moves_the_other_controls_and_is_never_empty(explorer: Explorer, base: RunConfig) -> None:
    explorer.controls.show(describe(base.vary(noise_rate=0.5)))
    pick = explorer.controls.pick["criterion"]
    labels = {value: label for label, value in pick.options}
    assert MOVES not in labels["magnitude"] and labels["random"] == f"random {MOVES} also Label noise"
    pick.value = "random"
    assert explorer.controls.slide["noise_rate"].value == 0.2 and {c.criterion for c in explorer.configs} == {"random"}
    assert explorer.controls.slide["noise_rate"].disabled, "a slider with one value cannot be moved"


def test_all_seeds_and_one_seed(explorer: Explorer, store: Store, base: RunConfig) -> None:
    show_plain(explorer, base)
    assert len(explorer.figure.seeds.get_segments()) == 0 and "3 seeds" in text(explorer.title)
    explorer.controls.seed.value = "all seeds"
    assert len(explorer.figure.seeds.get_segments()) == 3
    explorer.controls.seed.value = 1
    rows = store.rows(base.vary(noise_rate=0.2, seed=1))
    assert drawn(explorer) == pytest.approx([row["test_accuracy"] for row in rows]) and "1 seed" in text(explorer.title)
    assert explorer.figure.band.get_paths() == [], "one seed has no interval"


@pytest.mark.parametrize(
    ("measure", "column"),
    [
        ("train", "train_accuracy"),
        ("memorised", "train_accuracy_corrupted"),
        ("entropy", "entropy"),
        ("distance", "learning_distance"),
        ("calibration", "test_ece"),
    ],
)
def test_each_measure_is_its_column(explorer: Explorer, base: RunConfig, measure: str, column: str) -> None:
    show_plain(explorer, base)
    explorer.controls.measure.value = measure
    assert drawn(explorer) == pytest.approx(analysis.by_seed(explorer.shown, column).mean(0))


def test_what_was_not_measured_is_not_offered(explorer: Explorer, base: RunConfig) -> None:
    show_plain(explorer, base)
    explorer.controls.measure.value = "memorised"
    explorer.controls.slide["noise_rate"].value = 0.0
    assert "memorised" not in explorer.controls.measure.options and explorer.controls.measure.value == "test"


def test_the_band_is_the_interval(explorer: Explorer, base: RunConfig) -> None:
    show_plain(explorer, base)
    found = analysis.means(explorer.shown, ["round"], "test_accuracy")
    (path,) = explorer.figure.band.get_paths()
    assert path.vertices[:, 1].min() == pytest.approx(found["low"].min())
    assert path.vertices[:, 1].max() == pytest.approx(found["high"].max())


@pytest.mark.parametrize(("x", "column"), [("sparsity", "sparsity"), ("weights left", "remaining_weights")])
def test_the_cursor_stands_at_its_round_on_both_axes(explorer: Explorer, base: RunConfig, x: str, column: str) -> None:
    show_plain(explorer, base)
    explorer.controls.x.value = x
    plot = explorer.plot.value
    for round_ in (3, 1):
        explorer.cursor.value = round_
        left = float(re.search(r"left:([\d.]+)%", explorer.line.value)[1])
        rows = explorer.shown[explorer.shown["round"] == round_]
        pixel = explorer.figure.ax.transData.transform((rows[column].mean(), 0))[0]
        assert left == pytest.approx(100 * pixel / explorer.figure.figure.bbox.width, abs=0.01)
        assert text(explorer.readout).startswith(f"Round {round_}: {rows['sparsity'].iloc[0]:.2%} sparsity")
        assert f"{100 * rows['test_accuracy'].mean():.1f}" in text(explorer.readout)
    assert explorer.plot.value == plot, "moving the cursor does not draw the curve again"


def test_the_cursor_stays_at_its_sparsity_when_the_choice_changes(explorer: Explorer, base: RunConfig) -> None:
    show_plain(explorer, base)
    explorer.cursor.value = 3
    explorer.controls.slide["noise_rate"].value = 0.5
    assert explorer.cursor.value == 3


def test_phases_are_shaded_as_analysis_says(explorer: Explorer, base: RunConfig) -> None:
    show_plain(explorer, base)
    phases = analysis.mean_phases(explorer.shown)
    shown = {name for name, band in explorer.figure.bands.items() if band.get_visible()}
    assert shown == set(phases)
    sparsities = sorted(explorer.shown["sparsity"].unique())
    for phase in shown:
        band = explorer.figure.bands[phase]
        left, right = band.get_x() - 1e-9, band.get_x() + band.get_width() + 1e-9
        assert {p for s, p in zip(sparsities, phases, strict=True) if left <= s <= right} == {phase}


def test_pinned_curves_stay_and_what_differs_is_named(explorer: Explorer, store: Store, base: RunConfig) -> None:
    show_plain(explorer, base)
    pinned = drawn(explorer).copy()
    explorer.pin.click()
    explorer.controls.slide["noise_rate"].value = 0.5
    (segment,) = explorer.figure.pins.get_segments()
    assert segment[:, 1] == pytest.approx(pinned) and not np.allclose(pinned, drawn(explorer))
    assert "Shown: 50% label noise" in text(explorer.pinned) and "Pinned 1: 20% label noise" in text(explorer.pinned)
    explorer.controls.measure.value = "train"
    assert explorer.figure.pins.get_segments()[0][:, 1] != pytest.approx(pinned)
    explorer.clear.click()
    assert explorer.figure.pins.get_segments() == [] and explorer.pinned.value == ""


def test_the_csv_is_the_table_with_its_configuration(explorer: Explorer, store: Store, base: RunConfig) -> None:
    show_plain(explorer, base)
    explorer._csv()
    link = BeautifulSoup(explorer.out.value, "html.parser").a["href"]
    data = base64.b64decode(link.partition("base64,")[2]).decode()
    own = store.table([base.vary(noise_rate=0.2, seed=seed) for seed in range(3)])
    pd.testing.assert_frame_equal(*(pd.read_csv(io.StringIO(csv)) for csv in (data, own.to_csv(index=False))))
    assert "noise_rate" in data.splitlines()[0] and len(data.splitlines()) == 16


@pytest.mark.parametrize(
    "run",
    [
        RunConfig(),
        RunConfig(noise_rate=0.5, model="mlp", model_args={"width": 8}, milestones=[]),
        RunConfig(teacher=RunConfig(weight_decay=0.03, seed=0), teacher_round="best"),
        RunConfig(start=RunConfig(seed=9), start_round=3),
    ],
)
def test_the_code_is_of_the_same_runs(run: RunConfig) -> None:
    runs = [run.vary(seed=seed, **({"teacher": run.teacher.vary(seed=seed)} if run.teacher else {})) for seed in (0, 3)]
    given = []
    exec(
        as_code(runs).replace("from dsdlib import RunConfig, sweep", ""),
        {"RunConfig": RunConfig, "sweep": given.extend},
    )
    assert given == runs


def test_choosing_a_claim_shows_its_runs(explorer: Explorer, base: RunConfig) -> None:
    show_plain(explorer, base)
    options = explorer.claims.list.options
    assert options[0][0].startswith("●") and {value[0] for _, value in options} >= {"sdd-with-noise"}
    label, value = next((label, value) for label, value in options if value[0] == "no-sdd-without-noise")
    assert "nothing to judge" in label, "three seeds are too few"
    explorer.claims.list.value = value
    assert {c.noise_rate for c in explorer.configs} == {0.0} and explorer.controls.slide["noise_rate"].value == 0.0
    assert explorer.claims.list.options[0][1] == value and explorer.claims.list.options[0][0].startswith("●")


def test_a_claim_is_judged_anew_when_seeds_are_added(explorer: Explorer, store: Store, base: RunConfig) -> None:
    show_plain(explorer, base)
    assert "nothing to judge" in explorer.claims.list.options[0][0]
    runs = base.vary(noise_rate=0.2).grid(seed=range(5))
    sweep(runs, results=store.root, progress=False)
    explorer._trained(runs)
    assert "nothing to judge" not in explorer.claims.list.options[0][0]


def test_advice_is_given_where_it_is_asked_for(explorer: Explorer, base: RunConfig) -> None:
    show_plain(explorer, base)
    said = explorer.advice
    assert said.value == ""
    explorer.advised.value = True
    assert said.value == analysis.advise(explorer.shown)._repr_html_()
    first = said.value
    explorer.controls.slide["noise_rate"].value = 0.5
    assert said.value != first


def test_published_points_are_offered_where_a_paper_has_them(base: RunConfig) -> None:
    mnist = base.vary(dataset="mnist", noise_rate=0.2)
    test, train = (published_points(mnist, measure) for measure in ("test", "train"))
    assert len(test) == len(train) == 25 and (train["value"].to_numpy() > test["value"].to_numpy()).mean() > 0.5
    assert published_points(mnist, "entropy").empty and published_points(base.vary(noise_rate=0.2), "test").empty
    assert published_points(mnist.vary(noise_rate=0.5), "test").empty


def test_an_empty_store_says_how_to_get_runs(tmp_path: Path) -> None:
    assert "make report" in explore(tmp_path).data


def test_outside_jupyter_its_first_state_is_a_picture_with_a_description(explorer: Explorer) -> None:
    shown = explorer._repr_mimebundle_()
    image = BeautifulSoup(shown["text/html"], "html.parser").img
    assert image["src"].startswith("data:image/svg+xml;base64,") and "Test accuracy" in image["alt"]
    assert "application/vnd.jupyter.widget-view+json" in shown and shown["text/plain"] in image["alt"]

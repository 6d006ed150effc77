"""What a reader sees of a table of results."""

import base64
import io
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
import torch
from bs4 import BeautifulSoup
from matplotlib import pyplot as plt

from dsdlib import data, plots
from dsdlib.report.show import FIGURE, PROVENANCE, image_source, show_figure, show_machine, show_table, source


@pytest.fixture
def shown(monkeypatch):
    """What has been displayed, as bundles of mimetype and content."""
    bundles = []
    monkeypatch.setattr("dsdlib.report.show.display", lambda bundle, raw: bundles.append(bundle))
    return bundles


def cells(bundle):
    """A table's rows, head first, as its HTML has them; the text must say the same."""
    html = BeautifulSoup(bundle["text/html"], "html.parser")
    rows = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in html.find_all("tr")]
    assert [line.split() for line in bundle["text/plain"].splitlines()] == [" ".join(row).split() for row in rows]
    return rows


def test_columns_have_the_format_of_their_kind_or_their_own(shown):
    table = pd.DataFrame(
        {
            "rule": ["early stop", "a < b & c"],
            "trainings": [12.04, 4.0],
            "round": [11, 3],
            "test_accuracy": [0.45678, 1.0],
            "weight_decay": [1e-4, 0.0],
            "train_flops": [1.954e16, 999.0],
            "train_flops_sparse": [2.5e12, 0.0],
        }
    )
    before = table.copy()
    show_table(table, trainings="{:.1f}", weight_decay="{:g}", round="#{}")
    assert cells(shown[0]) == [
        ["rule", "trainings", "round", "test accuracy", "weight decay", "train flops", "train flops sparse"],
        ["early stop", "12.0", "#11", "45.7%", "0.0001", "19.5 PFLOP", "2.5 TFLOP"],
        ["a < b & c", "4.0", "#3", "100.0%", "0", "999.0 FLOP", "0.0 FLOP"],
    ]
    assert shown[0].keys() == {"text/html", "text/plain"}
    pd.testing.assert_frame_equal(table, before)


def test_a_format_of_its_own_goes_before_that_of_the_columns_kind(shown):
    show_table(pd.DataFrame({"train_flops": [1.5e12], "regret": [0.125]}), train_flops="{:.0e}", regret="{:.3f}")
    assert cells(shown[0])[1] == ["2e+12", "0.125"]


def test_missing_values_are_dashes_whatever_the_columns_format(shown):
    table = pd.DataFrame(
        {
            "test_accuracy": [np.nan, 0.5],
            "trainings": [1.0, np.nan],
            "train_flops": [np.nan, 1e9],
            "teacher": ["a", np.nan],
            "peak_sparsity": [np.nan, np.nan],
        }
    )
    table["bottom_weights"] = pd.array([8000, None], dtype="Int64")
    table["nothing"] = None
    show_table(table, trainings="{:.1f}")
    assert cells(shown[0])[1:] == [
        ["–", "1.0", "–", "a", "–", "8,000", "–"],
        ["50.0%", "–", "1.0 GFLOP", "–", "–", "–", "–"],
    ]


def test_timings_name_the_machine_and_the_data(shown):
    show_machine(torch.device("cpu"), data.load("digits"))
    facts = shown[0][PROVENANCE]
    assert facts["Data"].startswith("digits (SHA-256 ") and facts["Device"] == "cpu"
    assert f"torch {torch.__version__.split('+')[0]}" in facts["Versions"] and "Python 3." in facts["Versions"]
    assert facts["Processor"] in shown[0]["text/html"]


@pytest.mark.usefixtures("closed_figures")
def test_a_figure_is_a_drawing_with_text_and_with_the_data_drawn(shown):
    table = pd.DataFrame({"kind": ["a"] * 3, "seed": 0, "sparsity": [0, 0.5, 0.9], "test_accuracy": [0.9, 0.1, 0.8]})
    show_figure(plots.curves(table, "kind"), "A curve", "It falls & rises.", key=True)
    figure = shown[0][FIGURE]
    kind, _, encoded = figure["source"].partition(",")
    drawing = ET.fromstring(base64.b64decode(encoded))
    assert kind == "data:image/svg+xml;base64" and drawing.tag.endswith("svg")
    assert "Test accuracy (%)" in {element.text for element in drawing.iter()}
    image = BeautifulSoup(shown[0]["text/html"], "html.parser").img
    assert image["alt"] == "A curve. It falls & rises." and image["src"] == figure["source"]
    written = pd.read_csv(io.StringIO(figure["data"]))
    assert written["mean"].tolist() == [0.9, 0.1, 0.8] and written["series"].tolist() == ["a"] * 3
    assert not plt.get_fignums()


@pytest.mark.usefixtures("closed_figures")
def test_a_figure_is_the_same_text_each_time_and_pixels_where_a_drawing_would_be_larger():
    rng = np.random.default_rng(0)
    few, many = plt.subplots()[1], plt.subplots()[1]
    few.plot([0, 1])
    many.scatter(*rng.uniform(size=(2, 5000)), c=rng.uniform(size=5000))
    assert image_source(few.figure) == image_source(few.figure)
    assert image_source(many.figure).startswith("data:image/png;base64,")


def test_provenance_says_which_runs_were_published_and_which_trained_here():
    published = {"published": "mnist.parquet"}
    last = {"a": {"started": "2026-11-24T10:00:00"}, "b": {"started": "2026-11-26T10:00:00"} | published}
    last |= {"c": {"started": "2026-11-25T10:00:00"} | published}
    assert source(last) == (
        "2 runs published in mnist.parquet, trained on 2026-11-25 to 2026-11-26; 1 run trained here on 2026-11-24"
    )

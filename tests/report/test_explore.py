"""The explorer's table: the curves of the figures, in the figures' colours."""

import json

from dsdlib import plots
from dsdlib.report.explore import curves_table


def table_of(csv):
    figure = {"number": "1.1", "shows": "A <curve>", "page": "01.html", "id": "figure-1-1", "csv": "data/01-1.csv"}
    report = {"profile": "tiny", "base": "tiny/", "sections": [{"figures": [figure | {"data": csv}]}]}
    text = curves_table([report])
    assert "<" not in text, "the table stands within a script element"
    return json.loads(text) if text else []


def test_a_curve_has_its_numbers_in_order_and_its_style_and_leads_to_its_figure():
    csv = "series,measure,sparsity,mean,low,high\nrandom,entropy,0.5,0.6,0.5,0.7\nrandom,entropy,0,0.123456,0,1\n"
    (figure,) = table_of(csv)
    own = plots.series_style("random")
    assert figure["page"] == "tiny/01.html#figure-1-1" and figure["csv"] == "tiny/data/01-1.csv"
    assert figure["name"] == "tiny 1.1: A <curve>"
    assert figure["curves"] == [
        {"panel": "", "measure": "entropy", "series": "random", "colour": own.colour, "dash": "7 2.5 1.5 2.5"}
        | {"x": [0, 0.5], "mean": [0.1235, 0.6], "low": [0, 0.5], "high": [1, 0.7]}
    ]


def test_accuracies_share_their_axes_and_other_measures_do_not():
    rows = "Test,test_accuracy,0,1\nTrain (noisy labels),train_accuracy,0,1\nPublished: test,,0,1\n"
    (figure,) = table_of("series,measure,sparsity,mean\n" + rows)
    assert {curve["measure"] for curve in figure["curves"]} == {"accuracy"}
    colours = {curve["series"]: curve["colour"] for curve in figure["curves"]}
    assert colours["Test"] == plots.TEST and colours["Train (noisy labels)"] == plots.TRAIN
    (figure,) = table_of("series,measure,sparsity,mean\n" + rows + "0,entropy,0,1\n")
    assert {curve["measure"] for curve in figure["curves"]} == {"test_accuracy", "train_accuracy", "", "entropy"}


def test_numbers_have_the_shades_of_the_figures_in_ascending_order():
    (figure,) = table_of("series,measure,sparsity,mean\n50%,test_accuracy,0,1\n0%,test_accuracy,0,1\n")
    shades = {curve["series"]: curve["colour"] for curve in figure["curves"]}
    assert list(shades) == ["50%", "0%"]
    assert [shades["0%"], shades["50%"]] == list(plots.shades(["dense", 0, 50]).values())[1:]


def test_a_figure_that_is_not_drawn_against_sparsity_is_not_there():
    assert table_of("series,measure,width,mean\na,test_error,8,1\n") == []

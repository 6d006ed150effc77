"""Advice on runs of one's own: a plain loop with torch's pruning, a table in Torch-Pruning's shape, a user's CNN."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune

from dsdlib import RunConfig, plots
from dsdlib.advise import YOURS, main, train, variants
from dsdlib.analysis import advise
from dsdlib.data import load

NETWORK = """
from torch import nn


def build(input_shape, classes):
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, classes)
    return nn.Sequential(*layers)
"""

pytestmark = pytest.mark.usefixtures("closed_figures")


def accuracy(network, x, y):
    with torch.no_grad():
        return (network(x).argmax(1) == y).float().mean().item()


def plain_loop(rounds=3):
    """A table of a loop that anybody could write: train, measure, prune by `torch.nn.utils.prune`."""
    torch.manual_seed(0)
    data, rows = load("digits"), []
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    weights = [(layer, "weight") for layer in network if isinstance(layer, nn.Linear)]
    for round_ in range(rounds + 1):
        if round_:
            prune.global_unstructured(weights, prune.L1Unstructured, amount=0.5)
        optimizer = torch.optim.SGD(network.parameters(), 0.1)
        for batch in torch.randperm(1000).split(50):
            optimizer.zero_grad()
            cross_entropy(network(data.train_x[batch]), data.train_y[batch]).backward()
            optimizer.step()
        left = sum(int((layer.weight != 0).sum()) for layer, _ in weights)
        measured = {
            "test_acc": accuracy(network, data.test_x, data.test_y),
            "val_acc": accuracy(network, data.train_x[1000:], data.train_y[1000:]),
        }
        rows.append({"remaining weights": left, **measured})
    return pd.DataFrame(rows)


def test_a_table_of_torchs_own_pruning_in_a_plain_loop():
    table = plain_loop()
    found = advise(table)
    np.testing.assert_allclose(found.phases["sparsity"], [0, 0.5, 0.75, 0.875], atol=1e-3)
    assert found.table["test_accuracy"].tolist() == table["test_acc"].tolist()
    assert found.stop == max(np.flatnonzero(table["val_acc"] >= table["val_acc"].max() - 0.01))
    assert found.double_descent == "unknown" and "the table has 1 seed" in str(found)


def test_a_table_in_torch_prunings_shape(tmp_path, capsys, monkeypatch):
    """Made by hand: `count_ops_and_params` returns ``macs`` and ``nparams``; its programs log ``Acc``."""
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame(
        {"step": [0, 1, 2, 3], "macs": [41.2, 20.1, 9.8, 4.6], "nparams": [272474, 131000, 66000, 31000]}
    )
    table.assign(Acc=[0.9259, 0.9188, 0.9021, 0.8533]).to_csv("pruned.csv", index=False)
    assert main(["pruned.csv"]) == 0
    said = capsys.readouterr().out
    assert "goes from 92.6% dense to 85.3% at 88.62% sparsity, without a valley" in said
    assert "a rule must choose by validation accuracy, and there is none" in said
    assert (tmp_path / "advice.png").stat().st_size > 10_000


def test_a_users_cnn_is_trained_and_compared(tmp_path, monkeypatch, capsys):
    (tmp_path / "users_cnn.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "users_cnn", raising=False)
    fields = {"epochs": 2, "milestones": [], "rounds": 2, "amount": 0.5, "noise_rate": 0.2}
    options = [part for name, value in fields.items() for part in ("-p", name, str(value))]
    command = ["--data", "digits", "--model", "users_cnn:build", "--seeds", "2", "--weight-decays", "0.01"]
    assert main([*command, "--jobs", "1", *options]) == 0
    said = capsys.readouterr().out
    for change in (
        "weight decay 0.01 instead of 0.0001: the",
        "distillation from the dense network (α = 0.8, T = 10): the",
    ):
        assert change in said
    assert "every round stopped at its best epoch: the valley" in said and "no pruning, and the dense" in said
    runs = variants(RunConfig(model="users_cnn:build", **fields), [0, 1], [0.01], distil=True)
    tables = train(runs, progress=False)
    found = advise(tables.pop(YOURS), others=tables)
    assert str(found) in said  # the command's runs are these, and are not trained again
    taken = {name: one[one["round"] == advise(one).stop].set_index("seed") for name, one in tables.items()}
    own = found.table[found.table["round"] == found.stop].set_index("seed")["test_accuracy"]
    for change in found.changes[:2]:
        gain = 100 * (taken[change.name]["test_accuracy"] - own).mean()
        assert change.gain.value == pytest.approx(gain)


def test_variants_differ_in_one_thing():
    base = RunConfig(epochs=1, milestones=(), rounds=1)
    runs = variants(base, [3, 4], [base.weight_decay, 0.1], distil=True)
    own, decayed, distilled = runs.values()
    assert own == base.grid(seed=[3, 4]) and decayed == base.vary(weight_decay=0.1).grid(seed=[3, 4])
    assert [run.teacher for run in distilled] == own and [run.vary(teacher=None) for run in distilled] == own
    assert list(variants(base, [3], [], distil=False)) == [YOURS]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a TABLE, or --data and --model"),
        (["--data", "digits"], "give a TABLE, or --data and --model"),
        (["a.csv"], "there is no such file"),
        (["a.csv", "--data", "digits"], "give one or the other"),
        (["a.csv", "--other", "b.csv"], "--other b.csv: allowed: NAME=TABLE"),
        (["a.csv", "--figure", "nowhere/a.png"], "--figure nowhere/a.png: there is no such folder"),
        (["--data", "digits", "--model", "mlp", "--seeds", "0"], "--seeds 0: at least 1"),
        (
            ["--data", "digits", "--model", "mlp", "--other", "a=b.csv", "--fractions"],
            "--other, --fractions: only",
        ),
        (["--data", "digits", "--model", "mlp", "-p", "epoch", "3"], "did you mean 'epochs'"),
    ],
)
def test_what_cannot_be_answered_is_refused(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(arguments) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.glob("*.png"))


def test_the_command_compares_tables(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table = plain_loop()
    table.to_parquet("mine.parquet")
    table.assign(test_acc=table["test_acc"] - 0.05).to_csv("other.csv", index=False)
    assert main(["mine.parquet", "--other", "λ = 0.1=other.csv", "--figure", "mine.pdf"]) == 0
    assert "λ = 0.1: the valley" in capsys.readouterr().out and Path("mine.pdf").is_file()


def test_the_advice_is_printed_even_if_its_figure_cannot_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame({"sparsity": [0, 0.5, 0.75], "test_accuracy": [0.9, 0.8, 0.7]})
    table.to_csv("mine.csv", index=False)
    (tmp_path / "folder.png").mkdir()
    for figure in ("a.unknown", "folder.png"):
        assert main(["mine.csv", "--figure", figure]) == 2
        said = capsys.readouterr()
        assert said.out.strip() == str(advise(table)).strip() and said.err.startswith("advise: ")


def test_the_figure_shows_what_the_advice_says():
    rounds = np.arange(12)
    test = np.array([90, 88, 80, 70, 65, 70, 80, 88, 89, 85, 60, 30])
    table = pd.DataFrame({"sparsity": 1 - 0.8**rounds, "test_accuracy": test, "validation_accuracy": test})
    found = advise(table)
    ax = plots.advice(found)
    assert {text.get_text() for text in ax.texts} >= {"light", "critical", "sweet", "collapsed", "65%", "89%"}
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["Test", "Validation", "Stop"]
    stop = next(line for line in ax.lines if line.get_label() == "Stop")
    assert stop.get_xdata()[0] == found.phases["sparsity"][found.stop]


def test_the_notebook_takes_a_table_and_trains_nothing(tmp_path):
    plain_loop().to_csv(tmp_path / "mine.csv", index=False)
    notebook = Path(__file__).parents[1] / "notebooks" / "13_your_own.ipynb"
    given = ["-p", "table", tmp_path / "mine.csv"]
    command = [sys.executable, "-m", "papermill", notebook, tmp_path / "done.ipynb", "--no-progress-bar", *given]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "the table has 1 seed" in (tmp_path / "done.ipynb").read_text()
    assert not list(tmp_path.glob("results/*/config.json"))

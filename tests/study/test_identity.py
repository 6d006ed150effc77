"""A user's network that has changed under the same name."""

import json
import sys
import warnings

import pytest

from dsdlib import RunConfig, sweep

NETWORK = """
from torch import nn


def network(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, classes))
"""
RUN = RunConfig(model="changing:network", epochs=1, milestones=[], rounds=1)


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text):
        (tmp_path / "changing.py").write_text(text)
        monkeypatch.delitem(sys.modules, "changing", raising=False)

    write(NETWORK)
    return write


def test_a_network_of_the_same_shape_that_computes_something_else_is_noticed(module):
    runs = RUN.grid(seed=[0, 1])
    table = sweep(runs, progress=False)
    module(NETWORK.replace("ReLU", "Tanh"))
    with pytest.warns(UserWarning, match="logits_sha256 is no longer what it was"):
        again = sweep(runs, progress=False)
    assert (table["test_loss"] != again["test_loss"]).all()


def test_runs_of_an_earlier_version_without_a_sum_of_logits_stay(module, results):
    table = sweep([RUN], progress=False)
    file = results / RUN.key / "provenance.json"
    entries = json.loads(file.read_text())
    assert len(entries[0].pop("logits_sha256")) == 64
    file.write_text(json.dumps(entries))
    with warnings.catch_warnings(action="error"):
        assert sweep([RUN], progress=False).equals(table)

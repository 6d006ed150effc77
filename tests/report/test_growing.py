"""The curve that grows in a notebook: what it draws, and where it is shown."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbformat.v4 import new_code_cell, new_notebook

from dsdlib import RunConfig, sweep
from dsdlib.report.growing import MOST, so_far

ROOT = str(Path(__file__).parents[2])
TRAIN = """
from dsdlib import RunConfig, sweep
from dsdlib.report.growing import growing
run = RunConfig(model="mlp", model_args=dict(depth=1, width=8), epochs={epochs}, milestones=[], rounds=8)
table = sweep(run, progress=growing())
"""


def test_means_are_over_the_seeds_that_have_finished_a_round(tiny: RunConfig) -> None:
    runs = tiny.grid(noise_rate=[0.0, 0.5], seed=[0, 1, 2])
    table = sweep(runs, progress=False)
    tables = {run: table[table["key"] == run.key].head(3 - run.seed) for run in runs}  # 3, 2 and 1 rounds
    ax = so_far(tables)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["0% label noise", "50% label noise"]
    for rate, line in zip((0.0, 0.5), ax.lines, strict=True):
        done = [tables[run]["test_accuracy"].tolist() for run in runs if run.noise_rate == rate]
        means = [sum(part) / len(part) for part in ([run[n] for run in done if n < len(run)] for n in range(3))]
        assert line.get_ydata() == pytest.approx(means)


def test_one_curve_and_many_curves_are_not_named(tiny: RunConfig) -> None:
    table = sweep(tiny, progress=False)
    assert so_far({tiny: table.head(1)}).get_legend() is None
    many = tiny.grid(weight_decay=[n / 1000 for n in range(MOST + 1)])
    assert so_far({run: table for run in many[:MOST]}).get_legend() is not None
    assert so_far({run: table for run in many}).get_legend() is None


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")]))


@pytest.mark.usefixtures("here")
def test_a_reader_sees_one_picture_that_changes() -> None:
    manager, client = start_new_kernel()
    shown = []
    try:
        client.execute_interactive(TRAIN.format(epochs=60), allow_stdin=True, timeout=300, output_hook=shown.append)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    kinds = [message["msg_type"] for message in shown if "display" in message["msg_type"]]
    assert kinds[0] == "display_data" and set(kinds[1:]) == {"update_display_data"}
    content = [message["content"] for message in shown if "display" in message["msg_type"]]
    assert len({part["transient"]["display_id"] for part in content}) == 1
    assert "9 rounds of 1 runs are finished" in content[-1]["data"]["text/html"]


@pytest.mark.usefixtures("here")
def test_papermill_sees_only_the_bar(tmp_path: Path) -> None:
    notebook = new_notebook(cells=[new_code_cell(TRAIN.format(epochs=1))])
    notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(notebook, tmp_path / "train.ipynb")
    command = [sys.executable, "-m", "papermill", tmp_path / "train.ipynb", tmp_path / "done.ipynb"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (cell,) = nbformat.read(tmp_path / "done.ipynb", as_version=4).cells
    assert {output.output_type for output in cell.outputs} == {"stream"}
    assert "9/9" in "".join(output.text for output in cell.outputs)

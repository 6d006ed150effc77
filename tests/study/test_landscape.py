"""Paths between and slices around stored solutions: against the store's own tables, modules by hand, and algebra."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from dsdlib import ConfigError, RunConfig, load_model, sweep
from dsdlib.engine.stack import Stack
from dsdlib.geometry import filter_normalised
from dsdlib.seeding import torch_generator
from dsdlib.study import landscape

LENET = RunConfig(model_args={"width": 0.1}, noise_rate=0.5, epochs=3, milestones=(), rounds=2, amount=0.5)
VGG = LENET.vary(model="vgg_like", model_args={"depth": 2, "width": 2}, epochs=1, batch_size=128, seed=3)
MEASURES = ["train_accuracy", "train_loss", "test_accuracy", "test_loss"]


def redense(source: RunConfig, round_: int) -> RunConfig:
    return source.vary(rounds=0, start=source, start_round=round_, lr=0.005)


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RunConfig], pd.DataFrame]:
    """Two fully connected runs and a convolutional one, re-dense from rounds 1 and 2: store, runs, and their table."""
    store = tmp_path_factory.mktemp("results")
    sources = [*LENET.grid(seed=[0, 1]), VGG]
    runs = [redense(source, round_) for source in sources for round_ in (1, 2)]
    sweep(sources, keep=[1, 2], results=store, progress=False)
    return store, runs, sweep([*sources, *runs], results=store, progress=False)


@pytest.fixture(scope="module")
def paths(solved: tuple[Path, list[RunConfig], pd.DataFrame]) -> pd.DataFrame:
    store, runs, _ = solved
    return landscape.paths(runs, 4, results=store, progress=False)


def test_a_paths_ends_are_the_stored_solutions(solved, paths: pd.DataFrame) -> None:
    _, runs, table = solved
    assert paths["alpha"].tolist() == [0, 0.25, 0.5, 0.75, 1] * len(runs)
    for run in runs:
        path = paths[paths["key"] == run.key].set_index("alpha")
        came_from = table[(table["key"] == run.start.key) & (table["round"] == run.start_round)].iloc[0]
        led_to = table[table["key"] == run.key].iloc[0]
        for alpha, end in ((0.0, came_from), (1.0, led_to)):
            assert path.loc[alpha, MEASURES].tolist() == pytest.approx(end[MEASURES].tolist(), rel=1e-5)
        assert path.loc[0.0, "train_loss"] != pytest.approx(path.loc[1.0, "train_loss"], rel=1e-3)


def test_a_point_of_a_path_is_the_module_with_those_weights_and_statistics(solved, paths: pd.DataFrame) -> None:
    store, runs, _ = solved
    for run in (runs[0], runs[-1]):
        ends = [load_model(run.start, run.start_round, store), load_model(run, "dense", store)]
        states = [end.state_dict() for end in ends]
        middle = {n: 0.75 * a + 0.25 * states[1][n] if a.is_floating_point() else a for n, a in states[0].items()}
        ends[0].load_state_dict(middle)
        test = Stack([run], torch.device("cpu")).test
        expected = cross_entropy(ends[0].eval()(test[0]), test[1]).item()
        row = paths[(paths["key"] == run.key) & (paths["alpha"] == 0.25)]
        assert row["test_loss"].item() == pytest.approx(expected, rel=1e-4)


def test_a_slice_goes_through_the_solution_along_a_normalised_direction(solved) -> None:
    store, runs, table = solved
    runs = [runs[0], runs[-1]]
    found = landscape.slices(runs, 0.5, 2, 2, results=store, progress=False)
    assert found["offset"].tolist() == [-0.5, 0, 0.5] * 2 * len(runs)
    for run in runs:
        own = found[found["key"] == run.key]
        middle = own.loc[own["offset"] == 0, "train_loss"]
        assert middle.tolist() == pytest.approx([table.set_index("key").loc[run.key, "train_loss"]] * 2, rel=1e-5)
        network = load_model(run, "dense", store)
        vector = parameters_to_vector(network.parameters()).detach()
        drawn = torch.randn(len(vector), generator=torch_generator(run.seed, "direction", 1))
        along = filter_normalised(drawn, vector, [p.shape for p in network.parameters()])
        vector_to_parameters(vector - 0.5 * along, network.parameters())
        data = Stack([run], torch.device("cpu")).data
        loss = cross_entropy(network(data.x[data.rows[0]]), data.labels[0]).item()
        row = own[(own["direction"] == 1) & (own["offset"] == -0.5)]
        assert row["train_loss"].item() == pytest.approx(loss, rel=1e-4)


def test_processes_change_nothing_and_what_was_measured_stays(solved, monkeypatch: pytest.MonkeyPatch) -> None:
    store, runs, _ = solved
    first = landscape.slices(runs[:3], 1.0, 6, 1, jobs=2, results=store, progress=False)
    assert first["offset"].tolist() == pytest.approx([-1, -2 / 3, -1 / 3, 0, 1 / 3, 2 / 3, 1] * 3) and 0 in set(
        first["offset"]
    )
    files = [store / run.key / "slices-1.0-6-1.parquet" for run in runs[:3]]
    assert all(file.is_file() for file in files)
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:99])
    measured = []
    real = landscape.LossProbe

    def counted(run: RunConfig, device: str) -> landscape.LossProbe:
        measured.append(run)
        return real(run, device)

    monkeypatch.setattr(landscape, "LossProbe", counted)
    with pytest.warns(
        UserWarning, match=rf"run {runs[1].key} has a damaged file: slices-1\.0-6-1\.parquet cannot be read"
    ):
        pd.testing.assert_frame_equal(landscape.slices(runs[:3], 1.0, 6, 1, results=store, progress=False), first)
    assert measured == runs[:2]


def test_what_cannot_be_drawn_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=f"run {LENET.key} has no start"):
        landscape.paths([LENET])
    with pytest.raises(ConfigError, match="steps = 0: at least 1"):
        landscape.paths([LENET.vary(start=LENET)], 0)
    with pytest.raises(ConfigError, match="radius = 0, directions = 3: more than 0"):
        landscape.slices([LENET], 0)
    for steps in (3, 0):
        with pytest.raises(ConfigError, match=f"steps = {steps}: an even number from 2"):
            landscape.slices([LENET], steps=steps)

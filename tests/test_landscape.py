"""Paths between and slices around stored solutions: against the store's own tables, modules by hand, and algebra."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from dsdlib import ConfigError, RunConfig, analysis, load_model, sweep
from dsdlib.engine.stack import Stack
from dsdlib.geometry import between, filter_normalised, learning_distance, sharpness
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
        lessons = Stack([run], torch.device("cpu")).data
        loss = cross_entropy(network(lessons.x[lessons.rows[0]]), lessons.labels[0]).item()
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
    real = landscape.Place

    def counted(run: RunConfig, device: str) -> landscape.Place:
        measured.append(run)
        return real(run, device)

    monkeypatch.setattr(landscape, "Place", counted)
    pd.testing.assert_frame_equal(landscape.slices(runs[:3], 1.0, 6, 1, results=store, progress=False), first)
    assert measured == runs[:2]


def test_what_cannot_be_drawn_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=f"run {LENET.key} has no start to come from"):
        landscape.paths([LENET])
    with pytest.raises(ConfigError, match="steps = 0: at least 1"):
        landscape.paths([LENET.vary(start=LENET)], 0)
    with pytest.raises(ConfigError, match="radius = 0, directions = 3: more than 0"):
        landscape.slices([LENET], 0)
    for steps in (3, 0):
        with pytest.raises(ConfigError, match=f"steps = {steps}: an even number from 2"):
            landscape.slices([LENET], steps=steps)


@given(st.integers(0, 99), st.integers(1, 9))
def test_between_has_exact_ends_and_even_steps(seed: int, steps: int) -> None:
    one, other = torch.randn(2, 7, generator=torch.Generator().manual_seed(seed))
    points = between(one, other, torch.linspace(0, 1, steps + 1, dtype=torch.float64))
    assert torch.equal(points[0], one) and torch.equal(points[-1], other)
    torch.testing.assert_close(points.diff(dim=0), ((other - one) / steps).expand(steps, -1), atol=1e-6, rtol=1e-4)


def test_each_filter_of_a_direction_is_as_long_as_the_weights_own() -> None:
    shapes = [torch.Size(s) for s in ((3, 2, 2, 2), (3,), (2, 4), (2,))]
    direction, weights = torch.randn(2, 24 + 3 + 8 + 2, generator=torch.Generator().manual_seed(0))
    found = filter_normalised(direction, weights, shapes).split([24, 3, 8, 2])
    given_, own = direction.split([24, 3, 8, 2]), weights.split([24, 3, 8, 2])
    for part in (0, 2):
        rows = shapes[part][0]
        a, b, c = (v[part].view(rows, -1) for v in (found, given_, own))
        torch.testing.assert_close(a.norm(dim=1), c.norm(dim=1))
        torch.testing.assert_close(torch.cosine_similarity(a, b), torch.ones(rows))
    assert not found[1].any() and not found[3].any()
    torch.testing.assert_close(filter_normalised(9 * direction, weights, shapes), torch.cat(found))


def test_a_quadratics_sharpness_is_half_its_curvature_times_the_mean_square_of_the_steps() -> None:
    offsets = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])  # mean square 0.5
    curvature, bottom = np.array([[2.0], [6.0]]), 7.0
    losses = bottom + curvature / 2 * offsets**2
    assert sharpness(offsets, losses).tolist() == pytest.approx([0.5, 1.5])
    assert sharpness(offsets, losses + 3 * offsets).tolist() == pytest.approx([0.5, 1.5])  # a slope adds nothing
    assert sharpness(offsets, np.full((1, 5), bottom)).tolist() == [0]


def test_the_distance_of_a_network_of_two_parameters_by_hand() -> None:
    initial, learned = torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, -2.0]])
    assert learning_distance(initial, learned).tolist() == [5]
    assert learning_distance(initial, learned, [1, 1]).tolist() == [[3, 4]]


def test_a_climb_is_the_largest_rise_above_what_came_before() -> None:
    losses = {"down": [3, 2, 1, 0.5], "bump": [3, 1, 1.5, 0], "up": [1, 2, 3, 4], "late": [4, 1, 1.2, 1.1]}
    rows = [
        {"seed": 0, "start": name, "alpha": alpha, "train_loss": loss}
        for name, curve in losses.items()
        for alpha, loss in reversed(list(enumerate(curve)))
    ]
    found = analysis.climbs(pd.DataFrame(rows), ["seed", "start"]).set_index("start")["climb"]
    assert found.to_dict() == pytest.approx({"down": 0, "bump": 0.5, "up": 3, "late": 0.2})


def test_the_round_amid_a_phase_is_the_nearest_of_those_that_there_are() -> None:
    names = ["light"] * 5 + ["critical"] * 4 + ["collapsed"]
    assert analysis.amid(names, range(10)) == {"light": 2, "critical": 6, "collapsed": 9}
    assert analysis.amid(names, [0, 4, 8]) == {"light": 0, "critical": 8}


def measured(**columns: list[list[float]]) -> pd.DataFrame:
    """A tidy table of measures, each (seeds, rounds)."""
    arrays = {name: np.asarray(values, dtype=float) for name, values in columns.items()}
    seeds, rounds = next(iter(arrays.values())).shape
    places = {"seed": np.repeat(range(seeds), rounds), "round": np.tile(range(rounds), seeds)}
    return pd.DataFrame(places | {name: values.ravel() for name, values in arrays.items()})


def test_the_turn_and_the_peak_are_so_many_rounds_apart() -> None:
    test = [[0.8, 0.7, 0.5, 0.6, 0.7, 0.2]] * 3
    for peak, apart in ((2, 0), (3, 1), (0, 2), (5, 3)):
        distance = np.zeros((3, 6))
        distance[:, peak] = 1
        found = analysis.turn_from_peak(measured(test_accuracy=test, learning_distance=distance))
        assert (found.value, found.low, found.high) == (apart, apart, apart)
    flat = measured(test_accuracy=[[0.8, 0.7, 0.6]] * 3, learning_distance=[[0, 1, 0]] * 3)
    assert np.isnan(analysis.turn_from_peak(flat).value)


def test_rank_correlations_are_scipys_of_the_mean_curves() -> None:
    rng = np.random.default_rng(0)
    test, one, other = rng.normal(size=(3, 4, 9))
    table = measured(test_accuracy=test, one=one, other=other)
    ranks = [spearmanr(test.mean(0), curve.mean(0)).statistic for curve in (one, other)]
    for name, rank in zip(("one", "other"), ranks, strict=True):
        found = analysis.rank_correlation(table, "test_accuracy", name)
        assert found.value == pytest.approx(rank) and found.low < found.value < found.high
        assert analysis.rank_correlation(table, "test_accuracy", name, size=True).value == pytest.approx(abs(rank))
    opposite = analysis.rank_correlation(measured(a=[[1, 2, 3]] * 3, b=[[9, 4, 1]] * 3), "a", "b")
    assert opposite.value == opposite.low == opposite.high == pytest.approx(-1)


def test_the_best_epoch_is_the_first_of_the_highest_in_each_round_of_each_run() -> None:
    rows = [
        {"key": key, "round": round_, "epoch": epoch, "validation_accuracy": v, "test_accuracy": epoch / 10}
        for key, validation in {"a": [[0.1, 0.5, 0.5], [0.9, 0.2, 0.3]], "b": [[0, 0, 0], [0, 0.1, 0.2]]}.items()
        for round_, curve in enumerate(validation)
        for epoch, v in enumerate(curve)
    ]
    best = analysis.best_epochs(pd.DataFrame(rows), "validation_accuracy")
    assert best.set_index(["key", "round"])["epoch"].to_dict() == {("a", 0): 1, ("a", 1): 0, ("b", 0): 0, ("b", 1): 2}

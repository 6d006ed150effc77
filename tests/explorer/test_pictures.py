"""The wrong labels of a stored round, the first layer's mask, the epochs, and what is said where they are missing."""

from pathlib import Path

import numpy as np
import pytest
from bs4 import BeautifulSoup
from torch import nn

from dsdlib import RunConfig, load_model, sweep
from dsdlib.data import load
from dsdlib.explorer import Explorer
from dsdlib.explorer.html import COLOURS, thumbnails
from dsdlib.explorer.pictures import JUDGED, first_mask, nearest, wrong_labels
from dsdlib.explorer.settings import describe
from dsdlib.noise import labels_for
from dsdlib.study.store import Store


@pytest.fixture(scope="session")
def noisy(base: RunConfig) -> RunConfig:
    return base.vary(noise_rate=0.2)


def test_the_fates_are_counted_as_by_hand(store: Store, noisy: RunConfig) -> None:
    found = wrong_labels(store, noisy, 2)
    data, labels = load("digits"), labels_for(noisy, load("digits"))
    network, fates = load_model(noisy, 2, store.root), []
    for row, given, wrong in zip(labels.train_rows, labels.train_labels, labels.corrupted, strict=True):
        if wrong:
            says = int(network(data.train_x[row : row + 1]).argmax())
            fates.append("memorised" if says == given else "recovered" if says == data.train_y[row] else "other")
    assert list(found.fates) == fates[:JUDGED] and 100 < len(found.rows) <= JUDGED
    assert (found.given != found.true).all() and len(set(fates)) > 1


def test_the_same_images_are_shown_in_every_round(store: Store, noisy: RunConfig) -> None:
    first, last = (wrong_labels(store, noisy, round_) for round_ in (0, 4))
    assert np.array_equal(first.rows, last.rows) and not np.array_equal(first.predicted, last.predicted)


def test_each_image_says_and_shows_what_became_of_its_label(store: Store, noisy: RunConfig) -> None:
    found = wrong_labels(store, noisy, 0)
    page = BeautifulSoup(thumbnails(found), "html.parser")
    assert len(page("img")) == len(page("figure")) == 24
    for n, image in enumerate(page("img")):
        caption = f"{found.given[n]} / {found.true[n]} / {found.predicted[n]}"
        assert image.find_next("figcaption").text == caption and image["alt"].endswith(found.fates[n])
        assert COLOURS[found.fates[n]] in image["style"]


def test_the_mask_is_summed_over_the_neurons(store: Store, noisy: RunConfig, tmp_path: Path) -> None:
    mask = first_mask(store, noisy, 4)
    weight = next(m for m in load_model(noisy, 4, store.root).modules() if isinstance(m, nn.Linear)).weight
    assert mask.shape == (8, 8) and np.array_equal(mask.ravel(), (weight != 0).sum(0).numpy())
    assert mask.sum() < weight.numel() and first_mask(store, noisy, 0).sum() == weight.numel()
    conv = noisy.vary(model="vgg_like", model_args={"depth": 1, "width": 2}, rounds=1, epochs=1)
    sweep(conv, results=tmp_path, progress=False)
    assert first_mask(Store(tmp_path), conv, 0).tolist() == [[2] * 3] * 3


@pytest.mark.parametrize(("cursor", "round_"), [(0, 0), (1, 0), (2, 2), (3, 2), (9, 4)])
def test_the_nearest_stored_round_is_taken(cursor: int, round_: int) -> None:
    assert nearest([4, 0, 2], cursor) == round_ and nearest([], cursor) is None


def test_the_panels_say_which_round_they_show(explorer: Explorer, store: Store, noisy: RunConfig) -> None:
    for file in store.folder(noisy).glob("round_00[123].safetensors"):
        file.unlink()
    assert store.rounds_kept(noisy) == {0, 4}
    explorer.controls.show(describe(noisy))
    explorer.cursor.value = 4
    assert "weights of round 4." in explorer.panels.images.value
    explorer.cursor.value = 3
    shown = BeautifulSoup(explorer.panels.images.value, "html.parser").get_text()
    assert "weights of round 4, the stored round nearest to the cursor's round 3" in shown


def test_the_epochs_are_those_of_the_round_with_last_and_best_marked(explorer: Explorer, noisy: RunConfig) -> None:
    explorer.controls.show(describe(noisy))
    explorer.cursor.value = 3
    rows = [row for row in explorer.store.history(noisy) if row["round"] == 3]
    figure = explorer.panels.figure
    assert list(figure.lines["test"].get_ydata()) == [row["test_accuracy"] for row in rows]
    best = max(rows, key=lambda row: row["validation_accuracy"])
    assert [*figure.best.get_xdata(), *figure.best.get_ydata()] == [best["epoch"] + 1, best["test_accuracy"]]
    assert [*figure.last.get_xdata(), *figure.last.get_ydata()] == [2, rows[-1]["test_accuracy"]]


def test_epochs_that_are_stored_later_are_shown(explorer: Explorer, base: RunConfig) -> None:
    run = base.vary(noise_rate=0.5)
    explorer.controls.show(describe(run))
    assert "The other epochs were not stored" in explorer.panels.epochs.value
    sweep(run, keep=["history"], results=explorer.store.root, progress=False)
    explorer.move()
    assert "best by validation" in explorer.panels.epochs.value and "not stored" not in explorer.panels.epochs.value


def test_what_is_missing_is_said(explorer: Explorer, base: RunConfig) -> None:
    explorer.controls.show(describe(base.vary(noise_rate=0.5)))
    assert "The other epochs were not stored" in explorer.panels.epochs.value
    for file in explorer.store.root.glob("*/*.safetensors"):
        file.unlink()
    explorer.cursor.value = 1 if explorer.cursor.value != 1 else 2
    assert "No weights of this run are stored" in explorer.panels.images.value
    assert "No weights of this run are stored" in explorer.panels.mask.value
    assert "memorised" not in explorer.panels.images.value


def test_without_wrong_labels_no_image_is_shown(explorer: Explorer, base: RunConfig) -> None:
    explorer.controls.show(describe(base.vary(noise_rate=0.0)))
    assert "No training label of this run is wrong" in explorer.panels.images.value


def test_absent_data_are_named_where_the_images_would_be(explorer: Explorer, noisy: RunConfig, monkeypatch) -> None:
    def absent(name: str) -> None:
        raise FileNotFoundError(f"{name}: not on this machine")

    monkeypatch.setattr("dsdlib.explorer.pictures.load", absent)
    explorer.controls.show(describe(noisy.vary(weight_decay=0.01)))
    assert "digits: not on this machine" in explorer.panels.images.value
    assert explorer.figure.line.get_ydata().size == 5, "the curve is drawn all the same"


def test_inputs_that_are_no_images_are_not_shown_as_such(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "flat_data.py").write_text(
        "import torch\n\ndef load():\n    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))\n"
        "    return x, torch.arange(60) % 3, x, torch.arange(60) % 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    small = {
        "model": "mlp",
        "model_args": {"depth": 1, "width": 4},
        "epochs": 1,
        "milestones": [],
        "rounds": 2,
        "batch_size": 16,
    }
    run = RunConfig(dataset="flat_data:load", noise_rate=0.3, **small)
    sweep(run, results=tmp_path / "r", progress=False)
    shown = thumbnails(wrong_labels(Store(tmp_path / "r"), run, 0))
    assert "(5,) are not shown as images" in shown and "<img" not in shown
    assert first_mask(Store(tmp_path / "r"), run, 0).shape == (1, 5)

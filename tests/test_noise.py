"""Label noise by counting; splits; labels that people gave."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdlib import data, sweep
from dsdlib.config import ConfigError, RunConfig
from dsdlib.noise import at_hand, confusions, corrupt, labels_for

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


CIFAR10_MISTAKES = {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"}


DIGITS = tuple("0123456789")


KINDS = ("symmetric", "uniform", "pairflip", "asymmetric")


def labels_of(**changes):
    return labels_for(RunConfig(**changes), data.load("digits"))


@given(st.sampled_from(KINDS), st.floats(0, 1), st.integers(2, 12), st.integers(1, 200), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_noise_has_its_exact_rate_and_goes_where_it_may(kind, rate, classes, n, seed):
    labels = np.random.default_rng(seed).integers(0, classes, n)
    before = labels.copy()
    pairs = {0: 1, 1: 0} | ({2: 1} if classes > 2 else {})
    noisy = corrupt(labels, kind, rate, classes, pairs, np.random.default_rng(seed))
    assert (labels == before).all()
    wrong = noisy != labels
    assert ((noisy >= 0) & (noisy < classes)).all()
    if kind == "symmetric":
        assert wrong.sum() == round(rate * n)
    elif kind == "uniform":
        assert wrong.sum() <= round(rate * n)
    else:
        goes = {c: (c + 1) % classes for c in range(classes)} if kind == "pairflip" else pairs
        for c in range(classes):
            assert wrong[labels == c].sum() == (round(rate * (labels == c).sum()) if c in goes else 0)
        assert all(noisy[i] == goes[labels[i]] for i in np.flatnonzero(wrong))


@pytest.mark.parametrize(("kind", "share"), [("symmetric", 1 / 9), ("uniform", 1 / 10)])
def test_random_noise_reaches_every_other_class_alike_whatever_the_true_one(kind, share):
    labels = np.repeat(np.arange(10), 3000)
    noisy = corrupt(labels, kind, 0.5, 10, {}, np.random.default_rng(0))
    wrong = noisy != labels
    assert wrong.mean() == pytest.approx(0.5 if kind == "symmetric" else 0.5 * 0.9, abs=0.006)
    for c in range(10):
        counts = np.bincount(noisy[labels == c], minlength=10) / 3000
        others = np.delete(counts, c)
        assert others == pytest.approx([0.5 * share] * 9, abs=0.02)
        assert counts[c] == pytest.approx(1 - others.sum())


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (DIGITS, {"2": "7", "3": "8", "5": "6", "6": "5"}),
        (CIFAR10, CIFAR10_MISTAKES),
        (CIFAR10[::-1], CIFAR10_MISTAKES),
        (("a", "b", "c"), {}),
    ],
)
def test_asymmetric_confusions_are_the_published_ones_by_class_name(names, expected):
    assert {names[a]: names[b] for a, b in confusions(names, None).items()} == expected


def test_confusions_within_superclasses_go_round_to_the_next_class():
    superclass = np.array([1, 0, 1, 0, 1, 2])
    assert confusions(tuple("abcdef"), superclass) == {1: 3, 3: 1, 0: 2, 2: 4, 4: 0, 5: 5}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5])
def test_training_and_validation_labels_of_a_run_are_equally_noisy_and_the_test_labels_clean(kind, rate):
    digits = data.load("digits")
    labels = labels_of(noise_kind=kind, noise_rate=rate, seed=1)
    for rows, noisy in ((labels.train_rows, labels.train_labels), (labels.validation_rows, labels.validation_labels)):
        truth = digits.train_y[rows]
        wrong, n = noisy != truth, len(truth)
        if kind == "symmetric":
            assert int(wrong.sum()) == round(rate * n)
        elif kind == "uniform":
            assert int(wrong.sum()) == pytest.approx(rate * 0.9 * n, abs=0.05 * n)
        else:
            among = range(10) if kind == "pairflip" else (2, 3, 5, 6)
            assert int(wrong.sum()) == sum(round(rate * int((truth == c).sum())) for c in among)
    assert torch.equal(labels.corrupted, labels.train_labels != digits.train_y[labels.train_rows])


def test_neighbouring_seeds_corrupt_independently_even_when_shifted():
    n, rate = 1297, 0.4
    runs = [labels_of(validation_fraction=0, noise_rate=rate, seed=s) for s in range(5)]
    wrong = np.stack([run.corrupted.numpy() for run in runs])
    assert (wrong.sum(1) == round(rate * n)).all()
    tolerance = 5 * np.sqrt(n * rate**2 * (1 - rate) ** 2 / n**2)  # five standard deviations of the overlap
    for a in range(4):
        for shift in (-2, -1, 0, 1, 2):
            overlap = (wrong[a] & np.roll(wrong[a + 1], shift)).mean()
            assert overlap == pytest.approx(rate**2, abs=tolerance)
            same = runs[a].train_labels.numpy() == np.roll(runs[a + 1].train_labels.numpy(), shift)
            assert same.mean() < 0.5 or shift == 0
    again = labels_of(validation_fraction=0, noise_rate=rate, seed=3)
    assert torch.equal(again.train_labels, runs[3].train_labels)


def test_training_and_validation_labels_of_one_size_are_corrupted_independently():
    digits = data.load("digits")
    even = replace(digits, train_x=digits.train_x[:1296], train_y=digits.train_y[:1296])
    labels = labels_for(RunConfig(validation_fraction=0.5, noise_rate=0.5), even)
    train, validation = labels.corrupted, labels.validation_labels != even.train_y[labels.validation_rows]
    assert train.sum() == validation.sum() == 324
    assert (train & validation).sum() == pytest.approx(162, abs=5 * 648**0.5 / 4)  # five standard deviations


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25])
def test_the_split_is_disjoint_covering_stratified_and_the_seeds_own(fraction):
    n, truth = 1297, data.load("digits").train_y
    labels, again, other = (labels_of(validation_fraction=fraction, seed=s) for s in (0, 0, 1))
    together = torch.cat([labels.train_rows, labels.validation_rows])
    assert sorted(together.tolist()) == list(range(n))
    assert len(labels.validation_rows) == -int(-fraction * n // 1)
    for c in range(10):
        share = (truth[labels.validation_rows] == c).sum()
        assert abs(share - fraction * (truth == c).sum()) <= 1
    assert torch.equal(labels.train_rows, again.train_rows)
    assert torch.equal(labels.train_rows, other.train_rows) == (fraction == 0)
    assert torch.equal(labels.train_labels, truth[labels.train_rows])


def test_more_noise_leaves_the_split_where_it_is():
    assert torch.equal(labels_of(noise_rate=0.0).train_rows, labels_of(noise_rate=0.5).train_rows)


@pytest.fixture
def people(tmp_path, monkeypatch):
    """A data folder with people's labels of the digits: every fifth one wrong."""
    monkeypatch.setenv("DSDLIB_DATA", str(tmp_path))
    truth = data.load("digits").train_y.numpy()
    noisy = np.where(np.arange(len(truth)) % 5 == 0, (truth + 3) % 10, truth)
    np.savez(tmp_path / "people.npz", worse=noisy, clean_label=truth)
    np.savez(tmp_path / "swapped.npz", worse=noisy, clean_label=truth[::-1])
    np.savez(tmp_path / "short.npz", worse=noisy[:-1])
    return noisy


def test_human_labels_are_taken_as_they_are_for_training_and_validation(people):
    labels = labels_of(noise_kind="human", noise_labels="people.npz:worse")
    assert (labels.train_labels.numpy() == people[labels.train_rows]).all()
    assert (labels.validation_labels.numpy() == people[labels.validation_rows]).all()
    assert torch.equal(labels.corrupted, labels.train_rows % 5 == 0)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("swapped.npz:worse", "in another order"),
        ("short.npz:worse", "other images"),
        ("people.npz:best", "holds worse, clean_label"),
        ("nobody.npz:worse", "no file .*nobody.npz"),
    ],
)
def test_human_labels_that_do_not_belong_are_refused(people, where, message):
    with pytest.raises(ConfigError, match=message):
        labels_of(noise_kind="human", noise_labels=where)


@pytest.mark.parametrize("value", [77, 10, -1, np.nan, np.inf, 1.5, 2.0**70])
def test_labels_of_people_that_are_no_classes_are_refused_by_file_and_value(value, people, tmp_path, results):
    np.savez(tmp_path / "odd.npz", odd=np.r_[people[:1000].astype(type(value)), value, people[1001:]])
    message = rf"odd\.npz holds {value} at position 1000; allowed: whole numbers from 0 to 9"
    run = RunConfig(noise_kind="human", noise_labels="odd.npz:odd")
    with pytest.raises(ConfigError, match=message.replace("+", "\\+")):
        sweep([run, run.vary(seed=1)], progress=False)
    assert not list(results.glob("[!.]*"))  # no run has a folder


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.float32])
def test_labels_of_people_may_be_of_any_type_of_number(kind, people, tmp_path):
    np.savez(tmp_path / "typed.npz", typed=people.astype(kind))
    labels = labels_of(noise_kind="human", noise_labels="typed.npz:typed")
    assert labels.train_labels.dtype == torch.int64
    assert (labels.train_labels.numpy() == people[labels.train_rows]).all()


def test_labels_of_people_of_another_shape_type_or_clean_labels_are_refused(people, tmp_path):
    odd = {"table": np.stack([people] * 3, 1), "number": np.array(3), "words": people.astype(str), "flags": people > 4}
    np.savez(tmp_path / "odd.npz", **odd)
    np.savez(tmp_path / "clean.npz", worse=people, clean_label=people[:9])
    refused = {"odd.npz:table": r"its labels are \(1297, 3\), the data set's \(1297,\)", "odd.npz:number": r"are \(\)"}
    refused |= {"odd.npz:words": "holds <U21 values", "odd.npz:flags": "holds bool values", "clean.npz:worse": "order"}
    for where, message in refused.items():
        with pytest.raises(ConfigError, match=rf"noise_labels = '{where}': .*npz .*{message}"):
            labels_of(noise_kind="human", noise_labels=where)


def test_a_broken_file_of_peoples_labels_is_named(people, tmp_path):
    whole = (tmp_path / "people.npz").read_bytes()
    place = whole.index(people.tobytes()[:64]) + 9
    flipped = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    np.save(tmp_path / "array.npy", people)
    np.savez(tmp_path / "objects.npz", worse=people.astype(object))
    broken = {"empty": b"", "text": b"labels\n1\n2\n", "half": whole[: len(whole) // 2], "flipped": flipped}
    broken |= {"array": (tmp_path / "array.npy").read_bytes(), "objects": (tmp_path / "objects.npz").read_bytes()}
    for name, content in broken.items():
        (tmp_path / f"{name}.npz").write_bytes(content)
        with pytest.raises(ConfigError, match=rf"{name}\.npz cannot be read as \.npz"):
            labels_of(noise_kind="human", noise_labels=f"{name}.npz:worse")


def test_only_peoples_labels_whose_file_is_there_are_at_hand(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DSDLIB_DATA", str(tmp_path))
    (tmp_path / "deep").mkdir()
    for name in ("ten.npz", "deep/hundred.npz"):
        np.savez(tmp_path / name, worse=np.zeros(3))
    there = ["ten.npz:worse", "deep/hundred.npz:fine", "ten.npz:aggregate"]
    assert at_hand(there) == there and at_hand([]) == []
    assert capsys.readouterr().out == ""
    assert at_hand(["lost.npz:worse", *there[:2], "deep:worse", there[2]]) == there
    assert capsys.readouterr().out == f"Left out, as {tmp_path} has no such file: lost.npz:worse, deep:worse\n"

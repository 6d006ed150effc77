"""Label noise: some training labels made wrong, by an exact count (He et al. 2022, section 3)."""

import numpy as np

from dsdlib.config import ConfigError

# He et al. 2022: mistakes that people make, by class name. A class not named keeps its labels.
ASYMMETRIC = (
    {"2": "7", "3": "8", "5": "6", "6": "5"},
    {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"},
)


def corrupt(
    labels: np.ndarray,
    kind: str,
    rate: float,
    classes: int,
    confusions: dict[int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    """A copy of ``labels`` (n,) with noise of a kind at a rate.

    symmetric: exactly round(rate·n) labels become another class, never the true one. uniform: as many are drawn
    anew over all classes, so that about rate·(1 − 1/classes) end up wrong. pairflip: in each class exactly
    round(rate·n_class) become the next class. asymmetric: likewise, along ``confusions`` (class → class).
    """
    noisy = labels.copy()
    if kind == "symmetric":
        chosen = rng.permutation(len(labels))[: round(rate * len(labels))]
        noisy[chosen] = (labels[chosen] + rng.integers(1, classes, len(chosen))) % classes
    elif kind == "uniform":
        chosen = rng.permutation(len(labels))[: round(rate * len(labels))]
        noisy[chosen] = rng.integers(0, classes, len(chosen))
    elif kind == "pairflip":
        _flip(labels, noisy, {c: (c + 1) % classes for c in range(classes)}, rate, rng)
    elif kind == "asymmetric":
        _flip(labels, noisy, confusions, rate, rng)
    else:
        raise ConfigError(f"noise_kind = {kind!r}: no rate makes it; allowed: symmetric, uniform, pairflip, asymmetric")
    return noisy


def _flip(labels: np.ndarray, noisy: np.ndarray, to: dict[int, int], rate: float, rng: np.random.Generator) -> None:
    for source, target in to.items():
        members = rng.permutation(np.flatnonzero(labels == source))
        noisy[members[: round(rate * len(members))]] = target


def confusions(class_names: tuple[str, ...], superclass: np.ndarray | None) -> dict[int, int]:
    """Which class is taken for which: by name for digits and CIFAR-10, and within the super-class (classes,) where
    there are any (CIFAR-100: the next class of the same super-class). Empty where nothing is known."""
    if superclass is not None:
        groups = [np.flatnonzero(superclass == s) for s in np.unique(superclass)]
        return {int(a): int(b) for group in groups for a, b in zip(group, np.roll(group, -1), strict=True)}
    number = {name: i for i, name in enumerate(class_names)}
    for by_name in ASYMMETRIC:
        if by_name.keys() <= number.keys():
            return {number[a]: number[b] for a, b in by_name.items()}
    return {}

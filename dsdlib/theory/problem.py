"""The regression problems: linear features with a given covariance, and random ReLU features.

Labels are y = xᵀβ + σz with x ~ N(0, Σ). A model uses the first p features, in the order of the problem; the remaining
ones act as noise. The risk of coefficients b is E(y − xᵀb)² on new data, label noise included.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

# Names of the estimators: the dense fit, the fit to the most informative features, and the fit to the first features.
DENSE, INFORMATIVE, SMALL = "dense", "informative features only", "as few features"
CRITERIA = ("magnitude", "Hessian", "oracle")
RETRAINED = "{}, retrained".format
SINGULAR = 1e-12  # a variance below this fraction of the largest counts as zero

Criterion = Literal["magnitude", "Hessian", "oracle"]
Row = dict[str, Any]


class RegimeError(ValueError):
    """A problem to which the theory does not apply; the message names the regime."""


@dataclass(frozen=True)
class Problem:
    """A linear regression problem with N features. A model of size p uses the first p of them.

    ``variances`` (N,) is the diagonal of Σ, ``coefficients`` (N,) is β, and ``noise`` is σ². Any two features have the
    same ``correlation`` ρ: Σ = D((1 − ρ)I + ρ11ᵀ)D with D² = diag(variances). Raises `RegimeError` if Σ is singular or
    an argument is out of range.
    """

    variances: np.ndarray
    coefficients: np.ndarray
    noise: float
    correlation: float = 0.0

    def __post_init__(self) -> None:
        if self.variances.ndim != 1 or self.variances.shape != self.coefficients.shape or not self.variances.size:
            raise RegimeError(
                f"{self.variances.shape} variances, {self.coefficients.shape} coefficients: give one for each feature"
            )
        if not (np.isfinite(self.variances).all() and np.isfinite(self.coefficients).all()):
            raise RegimeError("variances and coefficients must be finite")
        small = int(np.argmin(self.variances))
        if self.variances[small] <= SINGULAR * self.variances.max():
            raise RegimeError(f"singular covariance: the variance of feature {small} is {self.variances[small]:g}")
        if not 0 <= self.correlation < 1:
            raise RegimeError(
                f"correlation = {self.correlation:g}: allowed: 0 to less than 1; else the covariance is singular"
            )
        if not 0 <= self.noise < np.inf:
            raise RegimeError(f"noise = {self.noise:g}: a variance; allowed: 0 or more")

    @property
    def features(self) -> int:
        return len(self.variances)

    @property
    def setting(self) -> Row:
        """The noise and the correlation, as columns of a table of risks."""
        return {"noise": self.noise, "correlation": self.correlation}

    @property
    def importance(self) -> np.ndarray:
        """Λβ² of each feature, (N,): its contribution to the variance of the labels if features are uncorrelated."""
        return self.variances * self.coefficients**2

    @property
    def covariance(self) -> np.ndarray:
        """Σ, (N, N)."""
        scale = np.sqrt(self.variances)
        common = self.correlation * np.outer(scale, scale)
        return common + np.diag((1 - self.correlation) * self.variances)

    def energy(self, vector: np.ndarray) -> float:
        """vᵀΣv."""
        common = self.correlation * (np.sqrt(self.variances) @ vector) ** 2
        return float((1 - self.correlation) * (self.variances @ vector**2) + common)

    def risk(self, fitted: np.ndarray) -> float:
        """The exact risk σ² + (b − β)ᵀΣ(b − β). ``fitted`` (p,) holds b for the first p features; the others are 0."""
        error = -self.coefficients
        error[: len(fitted)] += fitted
        return self.noise + self.energy(error)

    def draw(self, samples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A data set: features (samples, N) and labels (samples,)."""
        x = rng.standard_normal((samples, self.features))
        if self.correlation:
            common = np.sqrt(self.correlation) * rng.standard_normal((samples, 1))
            x = np.sqrt(1 - self.correlation) * x + common
        x *= np.sqrt(self.variances)
        return x, x @ self.coefficients + np.sqrt(self.noise) * rng.standard_normal(samples)


def fading(
    features: int, length: float, noise: float, spikes: int = 0, spike: float = 1.0, correlation: float = 0.0
) -> Problem:
    """A problem whose coefficients decay as exp(−i / (2·length)), so that β² falls to a third over ``length`` features.

    The first ``spikes`` features have the variance ``spike``, the others 1. β is scaled to βᵀΣβ = 1, so that ``noise``
    is relative to the signal.
    """
    at = np.arange(features)
    shape = Problem(np.where(at < spikes, float(spike), 1.0), np.exp(-at / (2 * length)), noise, correlation)
    scaled = shape.coefficients / np.sqrt(shape.energy(shape.coefficients))
    return Problem(shape.variances, scaled, noise, correlation)


def checked_sizes(problem: Problem, sizes: Iterable[int]) -> np.ndarray:
    """The model sizes as an integer array (G,). Raises `RegimeError` unless all lie between 1 and N."""
    array = np.asarray(list(sizes))
    if not array.size or array.dtype.kind not in "iu" or array.min() < 1 or array.max() > problem.features:
        raise RegimeError(f"sizes = {array.tolist()}: allowed: whole numbers of features, 1 to {problem.features}")
    return array


def check_kept(sizes: np.ndarray, kept: int) -> None:
    """Raises `RegimeError` unless every one of the ``sizes`` has ``kept`` features."""
    if not 0 <= kept <= sizes.min():
        raise RegimeError(f"kept = {kept}: allowed: 0 to the smallest size, {sizes.min()}")


def largest(scores: np.ndarray, count: int) -> np.ndarray:
    """A boolean array of the shape of ``scores``: True for the ``count`` largest along the last axis.

    Of equal scores the one with the lower index comes first.
    """
    order = np.argsort(-scores, axis=-1, kind="stable")
    chosen = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(chosen, order[..., :count], True, axis=-1)
    return chosen


@dataclass(frozen=True)
class ReluFeatures:
    """Random features √2·relu(Wx) of x ~ N(0, I), rows of W (N, d) on the unit sphere, and labels y = x₁ + σz.

    Each feature has second moment 1. ``moments`` (N, N) is the exact E[ffᵀ], the arc-cosine kernel of degree 1
    (Cho & Saul 2009), and ``cross`` (N,) the exact E[fy].
    """

    weights: np.ndarray
    noise: float

    @property
    def moments(self) -> np.ndarray:
        cosine = np.clip(self.weights @ self.weights.T, -1, 1)
        np.fill_diagonal(cosine, 1)
        return (np.sqrt(1 - cosine**2) + (np.pi - np.arccos(cosine)) * cosine) / np.pi

    @property
    def cross(self) -> np.ndarray:
        return self.weights[:, 0] / np.sqrt(2)

    def draw(self, samples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A data set: features (samples, N) and labels (samples,)."""
        x = rng.standard_normal((samples, self.weights.shape[1]))
        y = x[:, 0] + np.sqrt(self.noise) * rng.standard_normal(samples)
        return np.sqrt(2) * np.maximum(x @ self.weights.T, 0), y


def relu_features(features: int, inputs: int, noise: float, rng: np.random.Generator) -> ReluFeatures:
    """``features`` random ReLU features of ``inputs`` inputs, with directions drawn uniformly from ``rng``."""
    weights = rng.standard_normal((features, inputs))
    return ReluFeatures(weights / np.linalg.norm(weights, axis=1, keepdims=True), noise)

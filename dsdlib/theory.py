"""The linear Gaussian problem of Chang et al. 2021: what pruning a large fit costs, by theory and by simulation.

Labels y = xᵀβ + σz with x ~ N(0, Σ); n samples; a learner sees the first p features, in the order of the problem, and
takes the least-squares fit of smallest norm. All risks are E(y − xᵀb)² on new data, the noise included. numpy and scipy
only; this room stands apart from the others. Beside a busy process numpy should have one thread (threadpoolctl's
`threadpool_limits(1)`): two took sixty times as long.

The theory: with p > n the fit's coefficients behave like independent Gaussians (the paper's asymptotic law: ξ, γ, X).
With p < n ordinary least squares has the same form with ξ = ∞. Features that the learner does not see are noise to it.
"""

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh
from scipy.optimize.elementwise import find_root
from scipy.special import expit
from scipy.stats import norm

DENSE, INFORMATIVE, SMALL = "dense", "informative features only", "as few features"
CRITERIA = ("magnitude", "Hessian", "oracle")
RETRAINED = "{}, retrained".format
SINGULAR = 1e-12  # a variance that is smaller than this share of the largest is taken for none
Criterion = Literal["magnitude", "Hessian", "oracle"]
Row = dict[str, Any]


class RegimeError(ValueError):
    """A problem to which the theory does not apply; the message names the regime."""


@dataclass(frozen=True)
class Problem:
    """N features in the order in which a learner is given them.

    ``variances`` (N,) and ``coefficients`` (N,) are Σ's diagonal and β; ``noise`` is the variance σ². Any two features
    have the same ``correlation`` ρ: Σ = D((1 − ρ)I + ρ11ᵀ)D with D² = diag(variances). Raises `RegimeError` where Σ is
    singular.
    """

    variances: np.ndarray
    coefficients: np.ndarray
    noise: float
    correlation: float = 0.0

    def __post_init__(self) -> None:
        if self.variances.ndim != 1 or self.variances.shape != self.coefficients.shape or not self.variances.size:
            raise RegimeError(
                f"{self.variances.shape} variances, {self.coefficients.shape} coefficients: one a feature"
            )
        if not (np.isfinite(self.variances).all() and np.isfinite(self.coefficients).all()):
            raise RegimeError("variances and coefficients must be finite")
        small = int(np.argmin(self.variances))
        if self.variances[small] <= SINGULAR * self.variances.max():
            raise RegimeError(f"singular covariance: the variance of feature {small} is {self.variances[small]:g}")
        if not 0 <= self.correlation < 1:
            raise RegimeError(f"correlation = {self.correlation:g}: singular covariance, unless in [0, 1)")
        if not 0 <= self.noise < np.inf:
            raise RegimeError(f"noise = {self.noise:g}: a variance, 0 or more")

    @property
    def features(self) -> int:
        return len(self.variances)

    @property
    def importance(self) -> np.ndarray:
        """Λβ² of each feature, (N,)."""
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
        """σ² + (b − β)ᵀΣ(b − β), exactly; ``fitted`` has the coefficients b of the first features, the rest are 0."""
        error = -self.coefficients
        error[: len(fitted)] += fitted
        return self.noise + self.energy(error)

    def draw(self, samples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Features (n, N) and labels (n,)."""
        x = rng.standard_normal((samples, self.features))
        if self.correlation:
            common = np.sqrt(self.correlation) * rng.standard_normal((samples, 1))
            x = np.sqrt(1 - self.correlation) * x + common
        x *= np.sqrt(self.variances)
        return x, x @ self.coefficients + np.sqrt(self.noise) * rng.standard_normal(samples)


def fading(
    features: int, length: float, noise: float, spikes: int = 0, spike: float = 1.0, correlation: float = 0.0
) -> Problem:
    """β fades as exp(−i / (2·length)), so that β² falls to a third in ``length`` features; the first ``spikes``
    features have the variance ``spike``, the others 1. β is scaled to βᵀΣβ = 1: all noise is relative to the signal."""
    at = np.arange(features)
    shape = Problem(np.where(at < spikes, float(spike), 1.0), np.exp(-at / (2 * length)), noise, correlation)
    scaled = shape.coefficients / np.sqrt(shape.energy(shape.coefficients))
    return Problem(shape.variances, scaled, noise, correlation)


# The theory.


@dataclass(frozen=True)
class Law:
    """The fit to the first p features, for G values of p: coefficient i behaves like N(``mean``, ``spread``²).

    ``sizes``, ``xi`` and ``risk`` (the paper's p, ξ and γ) are (G,); ``mean`` and ``spread`` are (G, N), 0 for features
    that are not seen. The paper's X is √p times such a coefficient.
    """

    problem: Problem
    samples: int
    sizes: np.ndarray
    xi: np.ndarray
    risk: np.ndarray
    mean: np.ndarray
    spread: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        return np.arange(self.problem.features) < self.sizes[:, None]


def solve_xi(problem: Problem, samples: int, sizes: Iterable[int]) -> np.ndarray:
    """ξ with E[(1 + (ξΛ)⁻¹)⁻¹] = n/p over the first p features, (G,), for all sizes p at once.

    Raises `RegimeError` for p ≤ n, where there is no such ξ, and where none is found.
    """
    sizes = _sizes(problem, sizes)
    if (small := sizes[sizes <= samples]).size:
        raise RegimeError(
            f"p/n = {small[0]}/{samples} = {small[0] / samples:g}: the over-parameterised law holds for p > n only"
        )
    variances = problem.variances

    def excess(log_xi: np.ndarray, size: np.ndarray) -> np.ndarray:
        seen = np.arange(problem.features) < size[..., None]
        return np.where(seen, expit(log_xi[..., None] + np.log(variances)), 0).sum(-1) - samples

    low = samples / np.cumsum(variances)[sizes - 1]
    high = samples / ((sizes - samples) * np.minimum.accumulate(variances)[sizes - 1])
    found = _root(excess, np.log(low) - 1, np.log(high) + 1, sizes)
    if np.isnan(found).any():
        raise RegimeError(f"no root ξ for p = {sizes[np.isnan(found)][0]}, n = {samples}: ill-conditioned covariance")
    return np.exp(found)


def law(problem: Problem, samples: int, sizes: Iterable[int]) -> Law:
    """The limit law of the fit to the first p features, on both sides of the interpolation threshold.

    γ = (σ² + E[B²Λ/(1 + ξΛ)²]) / (1 − (p/n)·E[(1 + (ξΛ)⁻¹)⁻²]). With p < n that is σ²/(1 − p/n), since ξ = ∞. Raises
    `RegimeError` at p = n, where the risk is infinite, and for correlated features.
    """
    sizes = _sizes(problem, sizes)
    if problem.correlation:
        raise RegimeError(f"correlation = {problem.correlation:g}: the law of single coefficients needs a diagonal Σ")
    if (sizes == samples).any():
        raise RegimeError(f"p = n = {samples}: the interpolation threshold, where the risk is infinite")
    xi, over = np.full(len(sizes), np.inf), sizes > samples
    if over.any():
        xi[over] = solve_xi(problem, samples, sizes[over])
    seen = np.arange(problem.features) < sizes[:, None]
    learned = np.where(seen, expit(np.log(xi)[:, None] + np.log(problem.variances)), 0)  # (1 + (ξΛ)⁻¹)⁻¹, 0 if unseen
    bias = ((1 - learned) ** 2) @ problem.importance
    risk = (problem.noise + bias) / (1 - (learned**2).sum(1) / samples)
    spread = np.sqrt(risk[:, None] / (samples * problem.variances)) * learned
    return Law(problem, samples, sizes, xi, risk, learned * problem.coefficients, spread)


def threshold(law: Law, kept: int, criterion: Literal["magnitude", "Hessian"]) -> np.ndarray:
    """What a coefficient must reach to be kept, (G, N), so that ``kept`` of them do: t for magnitude, t/√Λ for the
    Hessian. Raises `RegimeError` where there are fewer features than that, or where no t is found."""
    _check_kept(law.sizes, kept)
    scale = _scale(law.problem, criterion)
    highest = ((np.abs(law.mean) + 40 * law.spread) / scale).max(1)

    def excess(t: np.ndarray, row: np.ndarray) -> np.ndarray:
        share = _kept_share(law.mean[row], law.spread[row], t[..., None] * scale)
        return np.where(law.seen[row], share, 0).sum(-1) - kept

    found = _root(excess, np.zeros(len(law.sizes)), highest, np.arange(len(law.sizes)))
    if np.isnan(found).any():
        raise RegimeError(f"no threshold keeps {kept} of {law.sizes[np.isnan(found)][0]} features")
    return found[:, None] * scale


def pruned_risk(law: Law, kept: int, criterion: Criterion) -> np.ndarray:
    """σ² + E[Λ(B − T(X))²], (G,): the risk once all but ``kept`` coefficients are set to 0, without retraining.

    magnitude keeps the largest |b|, Hessian the largest √Λ|b|, oracle the features of largest Λβ². Raises `RegimeError`
    where there are fewer features than ``kept``.
    """
    _check_kept(law.sizes, kept)
    bias, variance = law.problem.coefficients - law.mean, law.spread**2
    if criterion == "oracle":
        chosen = _largest(np.where(law.seen, law.problem.importance, -1), kept)
        error = np.where(chosen, bias**2 + variance, law.problem.coefficients**2)
    else:
        bar = threshold(law, kept, criterion)
        share = np.where(law.seen, _kept_share(law.mean, law.spread, bar), 0)
        squares = np.where(law.seen, _kept_squares(bias, law.mean, law.spread, bar), 0)
        error = squares + (1 - share) * law.problem.coefficients**2
    return law.problem.noise + error @ law.problem.variances


def informative_risk(problem: Problem, samples: int, kept: int) -> float:
    """The risk of a fit to the ``kept`` features of largest Λβ² alone; the others are noise to it. It is also what the
    oracle's choice gives after retraining."""
    order = np.argsort(-problem.importance, kind="stable")
    ranked = Problem(problem.variances[order], problem.coefficients[order], problem.noise, problem.correlation)
    return float(law(ranked, samples, [kept]).risk[0])


def predict(problem: Problem, samples: int, sizes: Iterable[int], kept: int) -> list[Row]:
    """A row for each size p and estimator: ``estimator``, ``features`` (p), ``ratio`` (p/n) and ``risk``. The problem's
    features come in order of falling importance."""
    found = law(problem, samples, sizes)
    risks = {DENSE: found.risk} | {criterion: pruned_risk(found, kept, criterion) for criterion in CRITERIA}
    risks[INFORMATIVE] = np.full(len(found.sizes), informative_risk(problem, samples, kept))
    return [
        {"estimator": name, "features": int(size), "ratio": size / samples, "risk": float(risk)}
        for name, values in risks.items()
        for size, risk in zip(found.sizes, values, strict=True)
    ]


def advantage(
    problem: Problem, samples: int, sizes: Iterable[int], kept: Iterable[int], criterion: Criterion = "Hessian"
) -> list[Row]:
    """A row for each size p and number s of kept features, s ≤ p: ``ratio`` (p/n), ``kept_ratio`` (s/n) and how often
    the ``advantage`` of the pruned fit doubles, log₂ of the small model's risk over its own; above 0 pruning wins."""
    rows, sizes = [], _sizes(problem, sizes)
    for count in kept:
        found, small = law(problem, samples, sizes[sizes >= count]), informative_risk(problem, samples, count)
        gains = np.log2(small / pruned_risk(found, count, criterion))
        rows += [
            {"ratio": size / samples, "kept_ratio": count / samples, "advantage": float(gain)}
            for size, gain in zip(found.sizes, gains, strict=True)
        ]
    return rows


def in_eigenbasis(covariance: np.ndarray, coefficients: np.ndarray, noise: float) -> Problem:
    """The problem of p correlated features, rotated to independent ones: the fit of smallest norm turns with it, so
    that `law` tells its risk. Raises `RegimeError` for a singular covariance (p, p)."""
    variances, vectors = eigh(covariance)
    if variances[0] <= SINGULAR * variances[-1]:
        raise RegimeError(f"singular covariance: its eigenvalues go from {variances[0]:.3g} to {variances[-1]:.3g}")
    return Problem(variances, vectors.T @ coefficients, noise)


def predict_correlated(problem: Problem, samples: int, kept: int) -> list[Row]:
    """The risks, by `predict`'s names, of the fit to all features and to the ``kept`` most important, for any
    correlation; and of the first pruned to these, which is the oracle's choice. Here a choice by magnitude has no such
    closed form: pairs of coefficients fall together."""
    sigma, beta = problem.covariance, problem.coefficients
    chosen = _largest(problem.importance, kept)
    variances, vectors = eigh(sigma)
    found = law(in_eigenbasis(sigma, beta, problem.noise), samples, [problem.features])
    learned = expit(np.log(found.xi[0]) + np.log(variances))
    error = beta - np.where(chosen, vectors @ (learned * (vectors.T @ beta)), 0)
    spread = (vectors * (learned**2 / variances)) @ vectors.T  # of the coefficients, in units of γ/n
    variance = found.risk[0] / samples * (sigma * spread)[np.ix_(chosen, chosen)].sum()
    small = law(in_eigenbasis(*_seen_alone(problem, chosen)), samples, [kept]).risk[0]
    risks = {DENSE: found.risk[0], "oracle": problem.risk(beta - error) + variance, INFORMATIVE: small}
    size = problem.features
    return [{"estimator": n, "features": size, "ratio": size / samples, "risk": float(r)} for n, r in risks.items()]


def _seen_alone(problem: Problem, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Covariance, coefficients and noise for whom only the chosen features exist: they stand in for the others as far
    as they are correlated with them, and the rest is noise."""
    sigma, beta = problem.covariance, problem.coefficients
    inner = sigma[np.ix_(chosen, chosen)]
    best = np.linalg.solve(inner, (sigma @ beta)[chosen])
    return inner, best, problem.noise + float(beta @ sigma @ beta - best @ inner @ best)


def _sizes(problem: Problem, sizes: Iterable[int]) -> np.ndarray:
    array = np.asarray(list(sizes))
    if not array.size or array.dtype.kind not in "iu" or array.min() < 1 or array.max() > problem.features:
        raise RegimeError(f"sizes {array.tolist()}: numbers of features, from 1 to the problem's {problem.features}")
    return array


def _check_kept(sizes: np.ndarray, kept: int) -> None:
    if not 0 <= kept <= sizes.min():
        raise RegimeError(f"cannot keep {kept} of {sizes.min()} features")


def _scale(problem: Problem, criterion: str) -> np.ndarray:
    """What a threshold is multiplied by for each feature, (N,)."""
    if criterion not in ("magnitude", "Hessian"):
        raise ValueError(f"criterion = {criterion!r}: magnitude or Hessian has a threshold")
    return problem.variances**-0.5 if criterion == "Hessian" else np.ones(problem.features)


def _root(excess: Callable[..., np.ndarray], low: np.ndarray, high: np.ndarray, *more: np.ndarray) -> np.ndarray:
    """Where each element's function is 0, and not a number where it is nowhere between its bounds."""
    found = find_root(excess, (low, high), args=more)
    return np.where(found.success, found.x, np.nan)


def _standardised(mean: np.ndarray, spread: np.ndarray, bar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    spread = np.maximum(spread, 1e-100)  # a feature that is not seen, or all but so, has none
    return (bar - mean) / spread, (-bar - mean) / spread


def _kept_share(mean: np.ndarray, spread: np.ndarray, bar: np.ndarray) -> np.ndarray:
    """P(|b| ≥ bar) for b ~ N(mean, spread²)."""
    upper, lower = _standardised(mean, spread, bar)
    return norm.sf(upper) + norm.cdf(lower)


def _kept_squares(bias: np.ndarray, mean: np.ndarray, spread: np.ndarray, bar: np.ndarray) -> np.ndarray:
    """E[(β − b)²; |b| ≥ bar] for b ~ N(mean, spread²) and β = mean + bias."""
    upper, lower = _standardised(mean, spread, bar)
    above, below, dense, sparse = norm.sf(upper), norm.cdf(lower), norm.pdf(upper), norm.pdf(lower)
    second = above + below + upper * dense - lower * sparse
    return bias**2 * (above + below) - 2 * bias * spread * (dense - sparse) + spread**2 * second


def _largest(scores: np.ndarray, count: int) -> np.ndarray:
    """True for the ``count`` largest along the last axis, the earlier of equal ones first."""
    order = np.argsort(-scores, axis=-1, kind="stable")
    chosen = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(chosen, order[..., :count], True, axis=-1)
    return chosen


# The simulation.


def generator(seed: int, purpose: str, repeat: int) -> np.random.Generator:
    """Hashed, not added, as in `dsdlib.seeding` (which needs torch): neighbours are independent."""
    return np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), repeat]))


def min_norm(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The least-squares fit of smallest norm, (p,), to features (n, p), through the smaller of the two Gram matrices.
    Raises `RegimeError` where that is singular."""
    n, p = features.shape
    try:
        if p >= n:
            return features.T @ cho_solve(cho_factor(features @ features.T), labels)
        return cho_solve(cho_factor(features.T @ features), features.T @ labels)
    except LinAlgError:
        raise RegimeError(f"singular Gram matrix of {n} samples and {p} features: no least-squares fit") from None


def pruned_fits(
    dense: np.ndarray, features: np.ndarray, labels: np.ndarray, score: np.ndarray, kept: int
) -> tuple[np.ndarray, np.ndarray]:
    """The ``kept`` coefficients of highest score, (p,) with zeros: as the dense fit has them, and retrained alone."""
    chosen = _largest(score, kept)
    retrained = np.zeros_like(dense)
    retrained[chosen] = min_norm(features[:, chosen], labels)
    return np.where(chosen, dense, 0), retrained


def simulate(problem: Problem, samples: int, sizes: Iterable[int], kept: int, repeats: int, seed: int = 0) -> list[Row]:
    """`predict`'s rows as data sets give them, with their ``repeat``, and the retrained estimators besides.

    A repeat is one data set: all sizes and estimators share it. Its risk on new data is computed exactly. Raises
    `RegimeError` where there are fewer features than ``kept``.
    """
    sizes, rows = _sizes(problem, sizes), []
    _check_kept(sizes, kept)
    for repeat in range(repeats):
        x, y = problem.draw(samples, generator(seed, "linear", repeat))
        for size in sizes:
            seen = x[:, :size]
            dense = min_norm(seen, y)
            scales, fits = {"magnitude": 1, "Hessian": np.sqrt(problem.variances[:size])}, {DENSE: dense}
            for criterion, scale in scales.items():
                score = scale * np.abs(dense)
                fits[criterion], fits[RETRAINED(criterion)] = pruned_fits(dense, seen, y, score, kept)
            fits["oracle"], fits[INFORMATIVE] = pruned_fits(dense, seen, y, problem.importance[:size], kept)
            at = {"features": int(size), "ratio": size / samples, "repeat": repeat}
            rows += [{"estimator": name, **at, "risk": problem.risk(fit)} for name, fit in fits.items()]
    return rows


def distances(problem: Problem, samples: int, kept: int, repeats: int, seed: int = 0) -> list[Row]:
    """`simulate`'s rows for all features, with the ``theory`` beside each ``risk`` and, of that one data set, the
    ``distance`` |risk/theory − 1|; without the retrained estimators, of which the theory says nothing."""
    expected = {row["estimator"]: row["risk"] for row in predict(problem, samples, [problem.features], kept)}
    rows = simulate(problem, samples, [problem.features], kept, repeats, seed)
    known = [row | {"theory": expected[row["estimator"]]} for row in rows if row["estimator"] in expected]
    return [row | {"distance": abs(row["risk"] / row["theory"] - 1)} for row in known]


def change(risks: np.ndarray) -> float:
    """By how many percent the first of two risks lies above the second."""
    return float(100 * (risks[0] / risks[1] - 1))


# Random ReLU features.


@dataclass(frozen=True)
class ReluFeatures:
    """Random features √2·relu(Wx) of x ~ N(0, I), rows of W (N, d) on the unit sphere, and labels y = x₁ + σz.

    Each feature's second moment is 1. ``moments`` (N, N) and ``cross`` (N,) are E[ffᵀ] and E[fy], exact: the first is
    the arc-cosine kernel of degree 1 (Cho & Saul 2009).
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
        """Features (n, N) and labels (n,)."""
        x = rng.standard_normal((samples, self.weights.shape[1]))
        y = x[:, 0] + np.sqrt(self.noise) * rng.standard_normal(samples)
        return np.sqrt(2) * np.maximum(x @ self.weights.T, 0), y


def relu_features(features: int, inputs: int, noise: float, rng: np.random.Generator) -> ReluFeatures:
    weights = rng.standard_normal((features, inputs))
    return ReluFeatures(weights / np.linalg.norm(weights, axis=1, keepdims=True), noise)


def simulate_relu(
    inputs: int, noise: float, samples: int, sizes: Iterable[int], kept: int, repeats: int, seed: int = 0
) -> list[Row]:
    """`simulate`'s rows for random features: each repeat draws its own W and data. No feature is known to be better
    than another: the small model is the fit to the first ``kept`` of them. All have one scale: Hessian pruning is
    magnitude pruning."""
    sizes, rows = list(sizes), []
    _check_kept(np.array(sizes), kept)
    for repeat in range(repeats):
        rng = generator(seed, "relu", repeat)
        drawn = relu_features(max(sizes), inputs, noise, rng)
        x, y = drawn.draw(samples, rng)
        moments, cross = drawn.moments, drawn.cross
        small = min_norm(x[:, :kept], y)
        for size in sizes:
            dense = min_norm(x[:, :size], y)
            pruned, retrained = pruned_fits(dense, x[:, :size], y, np.abs(dense), kept)
            fits = {DENSE: dense, "magnitude": pruned, RETRAINED("magnitude"): retrained, SMALL: small}
            at = {"features": size, "ratio": size / samples, "repeat": repeat}
            for name, fit in fits.items():
                seen = len(fit)
                risk = 1 + noise - 2 * fit @ cross[:seen] + fit @ moments[:seen, :seen] @ fit
                rows.append({"estimator": name, **at, "risk": float(risk)})
    return rows


def predict_relu(inputs: int, noise: float, samples: int, sizes: Iterable[int], seed: int = 0) -> list[Row]:
    """The risk of the fit to p random features if these were Gaussian of the same second moments, for one draw of W."""
    drawn = relu_features(max(sizes), inputs, noise, generator(seed, "relu", 0))
    moments, cross, rows = drawn.moments, drawn.cross, []
    for size in sizes:
        inner, along = moments[:size, :size], cross[:size]
        best = np.linalg.solve(inner, along)
        found = law(in_eigenbasis(inner, best, float(1 + noise - along @ best)), samples, [size])
        rows.append({"estimator": DENSE, "features": size, "ratio": size / samples, "risk": float(found.risk[0])})
    return rows

"""The linear Gaussian problem of Chang et al. 2021: what pruning a large fit costs, by theory and by simulation.

Labels y = xᵀβ + σz with x ~ N(0, Σ); n samples; a learner sees the first p features, in the order of the problem, and
takes the least-squares fit of smallest norm. All risks are E(y − xᵀb)² on new data, the noise included. numpy and scipy
only; this room stands apart from the others. Beside a busy process numpy should have one thread (threadpoolctl's
`threadpool_limits(1)`): two took sixty times as long.

The theory: with p > n the fit's coefficients behave like independent Gaussians (the paper's asymptotic law: ξ, γ, X).
With p < n ordinary least squares has the same form with ξ = ∞. Features that the learner does not see are noise to it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.linalg import eigh
from scipy.optimize.elementwise import find_root
from scipy.special import expit
from scipy.stats import norm

from dsdlib.seeding import numpy_generator
from dsdlib.theory.problem import (
    CRITERIA,
    DENSE,
    INFORMATIVE,
    SINGULAR,
    Criterion,
    Problem,
    RegimeError,
    Row,
    check_kept,
    checked_sizes,
    largest,
    relu_features,
)


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
    sizes = checked_sizes(problem, sizes)
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


def limit_law(problem: Problem, samples: int, sizes: Iterable[int]) -> Law:
    """The limit law of the fit to the first p features, on both sides of the interpolation threshold.

    γ = (σ² + E[B²Λ/(1 + ξΛ)²]) / (1 − (p/n)·E[(1 + (ξΛ)⁻¹)⁻²]). With p < n that is σ²/(1 − p/n), since ξ = ∞. Raises
    `RegimeError` at p = n, where the risk is infinite, and for correlated features.
    """
    sizes = checked_sizes(problem, sizes)
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
    check_kept(law.sizes, kept)
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
    check_kept(law.sizes, kept)
    bias, variance = law.problem.coefficients - law.mean, law.spread**2
    if criterion == "oracle":
        chosen = largest(np.where(law.seen, law.problem.importance, -1), kept)
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
    return float(limit_law(ranked, samples, [kept]).risk[0])


def predict(problem: Problem, samples: int, sizes: Iterable[int], kept: int) -> list[Row]:
    """A row for each size p and estimator: ``estimator``, ``features`` (p), ``ratio`` (p/n) and ``risk``. The problem's
    features come in order of falling importance."""
    found = limit_law(problem, samples, sizes)
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
    rows, sizes = [], checked_sizes(problem, sizes)
    for count in kept:
        found, small = limit_law(problem, samples, sizes[sizes >= count]), informative_risk(problem, samples, count)
        gains = np.log2(small / pruned_risk(found, count, criterion))
        rows += [
            {"ratio": size / samples, "kept_ratio": count / samples, "advantage": float(gain)}
            for size, gain in zip(found.sizes, gains, strict=True)
        ]
    return rows


def in_eigenbasis(covariance: np.ndarray, coefficients: np.ndarray, noise: float) -> Problem:
    """The problem of p correlated features, rotated to independent ones: the fit of smallest norm turns with it, so
    that `limit_law` tells its risk. Raises `RegimeError` for a singular covariance (p, p)."""
    variances, vectors = eigh(covariance)
    if variances[0] <= SINGULAR * variances[-1]:
        raise RegimeError(f"singular covariance: its eigenvalues go from {variances[0]:.3g} to {variances[-1]:.3g}")
    return Problem(variances, vectors.T @ coefficients, noise)


def predict_correlated(problem: Problem, samples: int, kept: int) -> list[Row]:
    """The risks, by `predict`'s names, of the fit to all features and to the ``kept`` most important, for any
    correlation; and of the first pruned to these, which is the oracle's choice. Here a choice by magnitude has no such
    closed form: pairs of coefficients fall together."""
    sigma, beta = problem.covariance, problem.coefficients
    chosen = largest(problem.importance, kept)
    variances, vectors = eigh(sigma)
    found = limit_law(in_eigenbasis(sigma, beta, problem.noise), samples, [problem.features])
    learned = expit(np.log(found.xi[0]) + np.log(variances))
    error = beta - np.where(chosen, vectors @ (learned * (vectors.T @ beta)), 0)
    spread = (vectors * (learned**2 / variances)) @ vectors.T  # of the coefficients, in units of γ/n
    variance = found.risk[0] / samples * (sigma * spread)[np.ix_(chosen, chosen)].sum()
    small = limit_law(in_eigenbasis(*_seen_alone(problem, chosen)), samples, [kept]).risk[0]
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


def predict_relu(inputs: int, noise: float, samples: int, sizes: Iterable[int], seed: int = 0) -> list[Row]:
    """The risk of the fit to p random features if these were Gaussian of the same second moments, for one draw of W."""
    drawn = relu_features(max(sizes), inputs, noise, numpy_generator(seed, "relu", 0))
    moments, cross, rows = drawn.moments, drawn.cross, []
    for size in sizes:
        inner, along = moments[:size, :size], cross[:size]
        best = np.linalg.solve(inner, along)
        found = limit_law(in_eigenbasis(inner, best, float(1 + noise - along @ best)), samples, [size])
        rows.append({"estimator": DENSE, "features": size, "ratio": size / samples, "risk": float(found.risk[0])})
    return rows

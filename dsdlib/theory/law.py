"""The limit law of the least-squares fit of smallest norm (Chang et al. 2021), and the risks that follow from it.

With p > n features, the coefficients of the fit behave like independent Gaussians (the paper's asymptotic law in terms
of ξ, γ and X). With p < n, ordinary least squares has the same form with ξ = ∞. Features that the model does not use
act as noise.
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
    """The fit to the first p features, for G values of p: coefficient i behaves like N(``mean``, ``std``²).

    ``sizes``, ``xi`` and ``risk`` are (G,), the paper's p, ξ and γ. ``mean`` and ``std`` are (G, N), with 0 for
    features that the model does not use. The paper's X is √p times such a coefficient.
    """

    problem: Problem
    samples: int
    sizes: np.ndarray
    xi: np.ndarray
    risk: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    @property
    def used(self) -> np.ndarray:
        """Which features each model uses, (G, N)."""
        return np.arange(self.problem.features) < self.sizes[:, None]


def solve_xi(problem: Problem, samples: int, sizes: Iterable[int]) -> np.ndarray:
    """The ξ that solves E[(1 + (ξΛ)⁻¹)⁻¹] = n/p over the first p features, (G,), for all ``sizes`` p at once.

    Raises `RegimeError` for p ≤ n, which has no solution, and if the search finds none.
    """
    sizes = checked_sizes(problem, sizes)
    if (small := sizes[sizes <= samples]).size:
        raise RegimeError(
            f"p/n = {small[0]}/{samples} = {small[0] / samples:g}: the over-parameterised law holds for p > n only"
        )
    variances = problem.variances

    def excess(log_xi: np.ndarray, size: np.ndarray) -> np.ndarray:
        used = np.arange(problem.features) < size[..., None]
        return np.where(used, expit(log_xi[..., None] + np.log(variances)), 0).sum(-1) - samples

    low = samples / np.cumsum(variances)[sizes - 1]
    high = samples / ((sizes - samples) * np.minimum.accumulate(variances)[sizes - 1])
    found = _root(excess, np.log(low) - 1, np.log(high) + 1, sizes)
    if np.isnan(found).any():
        raise RegimeError(f"no root ξ for p = {sizes[np.isnan(found)][0]}, n = {samples}: ill-conditioned covariance")
    return np.exp(found)


def limit_law(problem: Problem, samples: int, sizes: Iterable[int]) -> Law:
    """The limit law of the fit to the first p features, for each of the ``sizes`` p below or above n = ``samples``.

    γ = (σ² + E[B²Λ/(1 + ξΛ)²]) / (1 − (p/n)·E[(1 + (ξΛ)⁻¹)⁻²]). For p < n this is σ²/(1 − p/n), because ξ = ∞. Raises
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
    used = np.arange(problem.features) < sizes[:, None]
    shrinkage = np.where(used, expit(np.log(xi)[:, None] + np.log(problem.variances)), 0)  # (1 + (ξΛ)⁻¹)⁻¹ if used
    bias = ((1 - shrinkage) ** 2) @ problem.importance
    risk = (problem.noise + bias) / (1 - (shrinkage**2).sum(1) / samples)
    std = np.sqrt(risk[:, None] / (samples * problem.variances)) * shrinkage
    return Law(problem, samples, sizes, xi, risk, shrinkage * problem.coefficients, std)


def threshold(law: Law, kept: int, criterion: Literal["magnitude", "Hessian"]) -> np.ndarray:
    """The absolute value from which each coefficient is kept, (G, N), such that ``kept`` are kept in expectation.

    It is t for magnitude pruning and t/√Λ for Hessian pruning. Raises `RegimeError` if a size has fewer features than
    ``kept``, or if the search finds no t.
    """
    check_kept(law.sizes, kept)
    scale = _scale(law.problem, criterion)
    highest = ((np.abs(law.mean) + 40 * law.std) / scale).max(1)

    def excess(t: np.ndarray, row: np.ndarray) -> np.ndarray:
        probability = _kept_probability(law.mean[row], law.std[row], t[..., None] * scale)
        return np.where(law.used[row], probability, 0).sum(-1) - kept

    found = _root(excess, np.zeros(len(law.sizes)), highest, np.arange(len(law.sizes)))
    if np.isnan(found).any():
        raise RegimeError(f"no threshold keeps {kept} of {law.sizes[np.isnan(found)][0]} features")
    return found[:, None] * scale


def pruned_risk(law: Law, kept: int, criterion: Criterion) -> np.ndarray:
    """The risk σ² + E[Λ(B − T(X))²] without retraining, (G,), after all but ``kept`` coefficients are set to 0.

    ``criterion`` magnitude keeps the largest |b|, Hessian the largest √Λ|b|, and oracle the features of largest
    Λβ². Raises `RegimeError` if a size has fewer features than ``kept``.
    """
    check_kept(law.sizes, kept)
    bias, variance = law.problem.coefficients - law.mean, law.std**2
    if criterion == "oracle":
        chosen = largest(np.where(law.used, law.problem.importance, -1), kept)
        error = np.where(chosen, bias**2 + variance, law.problem.coefficients**2)
    else:
        bar = threshold(law, kept, criterion)
        probability = np.where(law.used, _kept_probability(law.mean, law.std, bar), 0)
        squares = np.where(law.used, _kept_squares(bias, law.mean, law.std, bar), 0)
        error = squares + (1 - probability) * law.problem.coefficients**2
    return law.problem.noise + error @ law.problem.variances


def informative_risk(problem: Problem, samples: int, kept: int) -> float:
    """The risk of a fit to only the ``kept`` features of largest Λβ²; the other features act as noise.

    This is also the risk of the oracle's choice after retraining.
    """
    order = np.argsort(-problem.importance, kind="stable")
    ranked = Problem(problem.variances[order], problem.coefficients[order], problem.noise, problem.correlation)
    return float(limit_law(ranked, samples, [kept]).risk[0])


def predict(problem: Problem, samples: int, sizes: Iterable[int], kept: int) -> list[Row]:
    """Predicted risks, a row for each of the ``sizes`` p and each estimator.

    The columns are ``estimator``, ``features`` (p), ``ratio`` (p/n), the problem's ``noise`` and ``correlation``, and
    ``risk``. The features of the problem must be sorted by falling importance Λβ².
    """
    found = limit_law(problem, samples, sizes)
    risks = {DENSE: found.risk} | {criterion: pruned_risk(found, kept, criterion) for criterion in CRITERIA}
    risks[INFORMATIVE] = np.full(len(found.sizes), informative_risk(problem, samples, kept))
    return [
        {"estimator": name, "features": int(size), "ratio": size / samples, **problem.setting, "risk": float(risk)}
        for name, values in risks.items()
        for size, risk in zip(found.sizes, values, strict=True)
    ]


def advantage(
    problem: Problem, samples: int, sizes: Iterable[int], kept: Iterable[int], criterion: Criterion = "Hessian"
) -> list[Row]:
    """The advantage of pruning a large fit, a row for each size p and each number s ≤ p of kept features.

    The columns are ``ratio`` (p/n), ``kept_ratio`` (s/n) and ``advantage``: log₂ of the risk of the fit to the s most
    informative features over the risk of the pruned fit. Above 0, pruning is better.
    """
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
    """The problem with ``covariance`` (p, p), rotated to uncorrelated features.

    The fit of smallest norm rotates with the features, so `limit_law` of the returned problem gives its risk. Raises
    `RegimeError` if the covariance is singular.
    """
    variances, vectors = eigh(covariance)
    if variances[0] <= SINGULAR * variances[-1]:
        raise RegimeError(f"singular covariance: its eigenvalues go from {variances[0]:.3g} to {variances[-1]:.3g}")
    return Problem(variances, vectors.T @ coefficients, noise)


def predict_correlated(problem: Problem, samples: int, kept: int) -> list[Row]:
    """The rows of `predict` that have a closed form for correlated features.

    These are the fit to all features, its pruning to the ``kept`` most important ones (the oracle's choice), and the
    fit to only these. Pruning by magnitude has no closed form here, because coefficients are no longer independent.
    """
    sigma, beta = problem.covariance, problem.coefficients
    chosen = largest(problem.importance, kept)
    variances, vectors = eigh(sigma)
    found = limit_law(in_eigenbasis(sigma, beta, problem.noise), samples, [problem.features])
    shrinkage = expit(np.log(found.xi[0]) + np.log(variances))
    error = beta - np.where(chosen, vectors @ (shrinkage * (vectors.T @ beta)), 0)
    covariance = (vectors * (shrinkage**2 / variances)) @ vectors.T  # of the coefficients, in units of γ/n
    variance = found.risk[0] / samples * (sigma * covariance)[np.ix_(chosen, chosen)].sum()
    small = limit_law(in_eigenbasis(*_restricted(problem, chosen)), samples, [kept]).risk[0]
    risks = {DENSE: found.risk[0], "oracle": problem.risk(beta - error) + variance, INFORMATIVE: small}
    at = {"features": problem.features, "ratio": problem.features / samples, **problem.setting}
    return [{"estimator": name, **at, "risk": float(risk)} for name, risk in risks.items()]


def _restricted(problem: Problem, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Covariance, best coefficients and noise of the regression on the ``chosen`` features alone.

    The part of the other features that the chosen ones cannot predict adds to the noise.
    """
    sigma, beta = problem.covariance, problem.coefficients
    inner = sigma[np.ix_(chosen, chosen)]
    best = np.linalg.solve(inner, (sigma @ beta)[chosen])
    return inner, best, problem.noise + float(beta @ sigma @ beta - best @ inner @ best)


def _scale(problem: Problem, criterion: str) -> np.ndarray:
    """The factor by which a criterion's threshold t is multiplied for each feature, (N,)."""
    if criterion not in ("magnitude", "Hessian"):
        raise ValueError(f"criterion = {criterion!r}: has no threshold; allowed: magnitude, Hessian")
    return problem.variances**-0.5 if criterion == "Hessian" else np.ones(problem.features)


def _root(excess: Callable[..., np.ndarray], low: np.ndarray, high: np.ndarray, *more: np.ndarray) -> np.ndarray:
    """The root of each element's function between ``low`` and ``high``, or nan where there is none."""
    found = find_root(excess, (low, high), args=more)
    return np.where(found.success, found.x, np.nan)


def _standardised(mean: np.ndarray, std: np.ndarray, bar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bounds ``bar`` and −``bar`` in standard deviations from the mean."""
    std = np.maximum(std, 1e-100)  # features that are not used have a standard deviation of 0
    return (bar - mean) / std, (-bar - mean) / std


def _kept_probability(mean: np.ndarray, std: np.ndarray, bar: np.ndarray) -> np.ndarray:
    """P(|b| ≥ bar) for b ~ N(mean, std²)."""
    upper, lower = _standardised(mean, std, bar)
    return norm.sf(upper) + norm.cdf(lower)


def _kept_squares(bias: np.ndarray, mean: np.ndarray, std: np.ndarray, bar: np.ndarray) -> np.ndarray:
    """E[(β − b)²; |b| ≥ bar] for b ~ N(mean, std²) and β = mean + bias."""
    upper, lower = _standardised(mean, std, bar)
    above, below, dense, sparse = norm.sf(upper), norm.cdf(lower), norm.pdf(upper), norm.pdf(lower)
    second = above + below + upper * dense - lower * sparse
    return bias**2 * (above + below) - 2 * bias * std * (dense - sparse) + std**2 * second


def predict_relu(inputs: int, noise: float, samples: int, sizes: Iterable[int], seed: int = 0) -> list[Row]:
    """The predicted risk of the fit to the first p random ReLU features, for each of the ``sizes`` p.

    The prediction treats the features as Gaussian with the same second moments, for the W that ``seed`` draws.
    """
    drawn = relu_features(max(sizes), inputs, noise, numpy_generator(seed, "relu", 0))
    moments, cross, rows = drawn.moments, drawn.cross, []
    for size in sizes:
        inner, along = moments[:size, :size], cross[:size]
        best = np.linalg.solve(inner, along)
        found = limit_law(in_eigenbasis(inner, best, float(1 + noise - along @ best)), samples, [size])
        rows.append({"estimator": DENSE, "features": size, "ratio": size / samples, "risk": float(found.risk[0])})
    return rows

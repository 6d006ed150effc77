"""The linear Gaussian problem of Chang et al. 2021: what pruning a large fit costs, by theory and by simulation.

Labels y = xᵀβ + σz with x ~ N(0, Σ); n samples; a learner sees the first p features, in the order of the problem, and
takes the least-squares fit of smallest norm. All risks are E(y − xᵀb)² on new data, the noise included. numpy and scipy
only; this room stands apart from the others. Beside a busy process numpy should have one thread (threadpoolctl's
`threadpool_limits(1)`): two took sixty times as long.

The theory: with p > n the fit's coefficients behave like independent Gaussians (the paper's asymptotic law: ξ, γ, X).
With p < n ordinary least squares has the same form with ξ = ∞. Features that the learner does not see are noise to it.
"""

from collections.abc import Iterable

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from dsdlib.seeding import numpy_generator
from dsdlib.theory.law import predict
from dsdlib.theory.problem import (
    DENSE,
    INFORMATIVE,
    RETRAINED,
    SMALL,
    Problem,
    RegimeError,
    Row,
    check_kept,
    checked_sizes,
    largest,
    relu_features,
)


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
    chosen = largest(score, kept)
    retrained = np.zeros_like(dense)
    retrained[chosen] = min_norm(features[:, chosen], labels)
    return np.where(chosen, dense, 0), retrained


def simulate(problem: Problem, samples: int, sizes: Iterable[int], kept: int, repeats: int, seed: int = 0) -> list[Row]:
    """`predict`'s rows as data sets give them, with their ``repeat``, and the retrained estimators besides.

    A repeat is one data set: all sizes and estimators share it. Its risk on new data is computed exactly. Raises
    `RegimeError` where there are fewer features than ``kept``.
    """
    sizes, rows = checked_sizes(problem, sizes), []
    check_kept(sizes, kept)
    for repeat in range(repeats):
        x, y = problem.draw(samples, numpy_generator(seed, "linear", repeat))
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


def simulate_relu(
    inputs: int, noise: float, samples: int, sizes: Iterable[int], kept: int, repeats: int, seed: int = 0
) -> list[Row]:
    """`simulate`'s rows for random features: each repeat draws its own W and data. No feature is known to be better
    than another: the small model is the fit to the first ``kept`` of them. All have one scale: Hessian pruning is
    magnitude pruning."""
    sizes, rows = list(sizes), []
    check_kept(np.array(sizes), kept)
    for repeat in range(repeats):
        rng = numpy_generator(seed, "relu", repeat)
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

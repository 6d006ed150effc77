"""Simulations: fits to drawn data sets, pruned with and without retraining, with their exact risks.

Beside a busy process numpy should have one thread (threadpoolctl's `threadpool_limits(1)`): two took sixty times as
long.
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
    """The least-squares fit of smallest norm, (p,), to ``features`` (n, p) and ``labels`` (n,).

    It solves the smaller of the two Gram systems, and raises `RegimeError` if that matrix is singular.
    """
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
    """The ``dense`` fit (p,) pruned to its ``kept`` coefficients of highest ``score`` (p,), and the same retrained.

    Both are (p,), with zeros for pruned coefficients. Retraining is a new least-squares fit to the kept features.
    """
    chosen = largest(score, kept)
    retrained = np.zeros_like(dense)
    retrained[chosen] = min_norm(features[:, chosen], labels)
    return np.where(chosen, dense, 0), retrained


def simulate(problem: Problem, samples: int, sizes: Iterable[int], kept: int, repeats: int, seed: int = 0) -> list[Row]:
    """The rows of `predict` by simulation, a row for each ``repeat``, with the retrained estimators as well.

    Each repeat draws one data set of ``samples`` samples, which all sizes and estimators share. Risks on new data are
    exact. Raises `RegimeError` if a size has fewer features than ``kept``.
    """
    sizes, rows = checked_sizes(problem, sizes), []
    check_kept(sizes, kept)
    for repeat in range(repeats):
        x, y = problem.draw(samples, numpy_generator(seed, "linear", repeat))
        for size in sizes:
            used = x[:, :size]
            dense = min_norm(used, y)
            scales, fits = {"magnitude": 1, "Hessian": np.sqrt(problem.variances[:size])}, {DENSE: dense}
            for criterion, scale in scales.items():
                score = scale * np.abs(dense)
                fits[criterion], fits[RETRAINED(criterion)] = pruned_fits(dense, used, y, score, kept)
            fits["oracle"], fits[INFORMATIVE] = pruned_fits(dense, used, y, problem.importance[:size], kept)
            at = {"features": int(size), "ratio": size / samples, **problem.setting, "repeat": repeat}
            rows += [{"estimator": name, **at, "risk": problem.risk(fit)} for name, fit in fits.items()]
    return rows


def distances(problem: Problem, samples: int, kept: int, repeats: int, seed: int = 0) -> list[Row]:
    """The rows of `simulate` for a fit to all features, with the predicted risk as ``theory``.

    ``distance`` is |risk/theory − 1| of the repeat. The retrained estimators are left out, because the theory does not
    cover them.
    """
    expected = {row["estimator"]: row["risk"] for row in predict(problem, samples, [problem.features], kept)}
    rows = simulate(problem, samples, [problem.features], kept, repeats, seed)
    known = [row | {"theory": expected[row["estimator"]]} for row in rows if row["estimator"] in expected]
    return [row | {"distance": abs(row["risk"] / row["theory"] - 1)} for row in known]


def simulate_relu(
    inputs: int, noise: float, samples: int, sizes: Iterable[int], kept: int, repeats: int, seed: int = 0
) -> list[Row]:
    """The rows of `simulate` for random ReLU features; each repeat draws its own W and data.

    No feature is known to be better than another, so the small model is the fit to the first ``kept`` features. All
    features have the same scale, so Hessian pruning equals magnitude pruning.
    """
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
                used = len(fit)
                risk = 1 + noise - 2 * fit @ cross[:used] + fit @ moments[:used, :used] @ fit
                rows.append({"estimator": name, **at, "risk": float(risk)})
    return rows

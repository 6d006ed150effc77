"""The theory of linear regression against simulation, closed forms and brute force, and the errors it raises."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from dsdlib import analysis, theory
from dsdlib.theory import CRITERIA, DENSE, INFORMATIVE, RETRAINED, SMALL, Problem, RegimeError, fading, limit_law
from dsdlib.theory.law import _root

SPIKED = {"spikes": 50, "spike": 25.0}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with threadpool_limits(1):
        yield


def risks(rows):
    """Mean risk by estimator."""
    return pd.DataFrame(rows).groupby("estimator")["risk"].mean()


def random_problem(seed, features=40, noise=0.3):
    rng = np.random.default_rng(seed)
    return Problem(np.exp(rng.normal(size=features)), rng.normal(size=features) / features**0.5, noise)


# Against simulation.


@pytest.mark.parametrize("spiked", [{}, {"spikes": 250, "spike": 25.0}], ids=["identity", "spiked"])
def test_theory_and_simulation_agree_at_1500_features(spiked):
    rows = pd.DataFrame(theory.distances(fading(1500, 625, 0.3, **spiked), 500, 250, repeats=12))
    assert set(rows["estimator"]) == {DENSE, *CRITERIA, INFORMATIVE}
    for name, group in rows.groupby("estimator"):
        mean, limit = analysis.over_seeds(group["risk"].to_numpy(), float), group["theory"].iloc[0]
        assert abs(mean.value / limit - 1) <= 0.03 or mean.low <= limit <= mean.high, (name, mean, limit)


def test_the_distance_shrinks_as_the_problem_grows():
    sizes = (60, 240, 960)
    problems = [fading(p, p / 2.4, 0.3, spikes=p // 6, spike=25.0) for p in sizes]
    rows = [theory.distances(problem, problem.features // 3, problem.features // 6, 20) for problem in problems]
    means = [pd.DataFrame(part).groupby("estimator")["distance"].mean() for part in rows]
    assert all((large < small).all() for small, large in pairwise(means))


@pytest.mark.parametrize("ratio", [0.6, 0.8, 1.5, 4])
def test_theory_holds_on_both_sides_of_the_threshold_and_for_features_that_are_not_seen(ratio):
    problem = fading(1200, 250, 0.3, **SPIKED)
    simulated = pd.DataFrame(theory.simulate(problem, 200, [round(200 * ratio)], 100, repeats=40))
    for row in theory.predict(problem, 200, [round(200 * ratio)], 100):
        risk = simulated.loc[simulated["estimator"] == row["estimator"], "risk"]
        assert row["risk"] == pytest.approx(risk.mean(), rel=0.03, abs=4 * risk.sem()), row


def test_correlated_features_agree_too():
    problem = fading(450, 190, 0.3, correlation=0.3)
    rows = pd.DataFrame(theory.simulate(problem, 150, [450], 75, repeats=60))
    for row in theory.predict_correlated(problem, 150, 75):
        risk = rows.loc[rows["estimator"] == row["estimator"], "risk"]
        assert row["risk"] == pytest.approx(risk.mean(), abs=4 * risk.sem()), row


def test_relu_features_agree_with_gaussian_ones():
    rows = pd.DataFrame(theory.simulate_relu(50, 0.3, 150, [100, 400], 75, repeats=20))
    for row in theory.predict_relu(50, 0.3, 150, [100, 400]):
        dense = rows[(rows["estimator"] == DENSE) & (rows["features"] == row["features"])]["risk"]
        assert row["risk"] == pytest.approx(dense.mean(), rel=0.06, abs=4 * dense.sem())


# Against closed forms.


@given(st.integers(2, 60), st.integers(2, 60), st.floats(0, 3), st.floats(0, 3))
@settings(max_examples=60, deadline=None)
def test_identity_covariance_has_the_known_ridgeless_risk(samples, features, noise, signal):
    if samples == features:
        return
    problem = Problem(np.ones(features), np.full(features, (signal / features) ** 0.5), noise)
    found, kappa = limit_law(problem, samples, [features]), features / samples
    if kappa < 1:
        assert found.risk[0] == pytest.approx(noise / (1 - kappa)) and found.xi[0] == np.inf
    else:
        assert found.risk[0] == pytest.approx(noise * kappa / (kappa - 1) + signal * (1 - 1 / kappa))
        assert found.xi[0] == pytest.approx(1 / (kappa - 1))


@pytest.mark.parametrize("seed", range(3))
def test_xi_solves_its_equation_for_every_size(seed):
    problem, sizes = random_problem(seed), [21, 25, 40]
    found = theory.solve_xi(problem, 20, sizes)
    for size, xi in zip(sizes, found, strict=True):
        assert (1 / (1 + 1 / (xi * problem.variances[:size]))).mean() == pytest.approx(20 / size)
        assert xi == theory.solve_xi(problem, 20, [size])[0]


def test_the_small_model_is_least_squares_with_the_rest_as_noise():
    problem = random_problem(1)
    importance = np.sort(problem.importance)[::-1]
    assert theory.informative_risk(problem, 20, 8) == pytest.approx((0.3 + importance[8:].sum()) / (1 - 8 / 20))


def test_without_correlation_the_correlated_theory_is_the_other():
    problem = fading(60, 20, 0.3, **SPIKED)
    other = risks(theory.predict(problem, 30, [60], 20))
    for name, risk in risks(theory.predict_correlated(problem, 30, 20)).items():
        assert risk == pytest.approx(other[name]), name


def test_rotated_features_have_the_same_risk():
    problem, turn = random_problem(2), np.linalg.qr(np.random.default_rng(0).normal(size=(40, 40)))[0]
    covariance = turn @ np.diag(problem.variances) @ turn.T
    turned = theory.in_eigenbasis(covariance, turn @ problem.coefficients, problem.noise)
    assert limit_law(turned, 15, [40]).risk == pytest.approx(limit_law(problem, 15, [40]).risk)


# Against brute force.


@pytest.mark.parametrize("samples", [20, 70])  # p > n and p < n
@pytest.mark.parametrize("criterion", CRITERIA)
def test_pruned_risk_is_the_mean_over_the_law(criterion, samples):
    problem, kept = random_problem(3), 12
    found = limit_law(problem, samples, [35])
    drawn = found.mean + found.std * np.random.default_rng(0).normal(size=(40_000, 40))
    if criterion == "oracle":
        stays = problem.importance >= np.sort(problem.importance[:35])[-kept]
    else:
        stays = np.abs(drawn) >= theory.threshold(found, kept, criterion)
        assert stays[:, :35].sum(1).mean() == pytest.approx(kept, abs=0.05)
    errors = problem.coefficients - np.where(stays & found.used, drawn, 0)
    expected = problem.noise + (errors**2 @ problem.variances).mean()
    assert theory.pruned_risk(found, kept, criterion)[0] == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("problem", [random_problem(4), fading(30, 10, 0.3, 5, 9.0, correlation=0.4)])
def test_risk_is_that_of_new_data(problem):
    x, y = problem.draw(200_000, np.random.default_rng(0))
    fitted = np.linspace(-0.5, 0.5, 20)
    assert problem.risk(fitted) == pytest.approx(((y - x[:, :20] @ fitted) ** 2).mean(), rel=0.02)
    assert np.cov(x.T) == pytest.approx(problem.covariance, abs=0.05 * problem.variances.max())
    vector = np.linspace(-1, 2, problem.features)
    assert problem.energy(vector) == pytest.approx(vector @ problem.covariance @ vector)


def test_relu_features_moments_are_those_of_new_data():
    drawn = theory.relu_features(8, 3, 0.3, np.random.default_rng(0))
    features, labels = drawn.draw(400_000, np.random.default_rng(1))
    assert features.T @ features / len(labels) == pytest.approx(drawn.moments, abs=0.02)
    assert features.T @ labels / len(labels) == pytest.approx(drawn.cross, abs=0.02)
    assert (labels**2).mean() == pytest.approx(1.3, abs=0.02)


# Limits and properties.


@given(st.integers(0, 10_000), st.sampled_from([25, 70]), st.sampled_from(["magnitude", "Hessian"]), st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_so_many_are_kept_and_the_risk_lies_above_the_noise(seed, samples, criterion, kept):
    problem = random_problem(seed)
    found = limit_law(problem, samples, [40])
    bar, noise = theory.threshold(found, kept, criterion), np.random.default_rng(0).normal(size=(4000, 40))
    assert (np.abs(found.mean + found.std * noise) >= bar).sum(1).mean() == pytest.approx(kept, abs=0.3)
    assert theory.pruned_risk(found, kept, criterion)[0] > problem.noise


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("samples", [20, 70])
def test_keeping_all_is_dense_and_keeping_none_leaves_the_signal(criterion, samples):
    problem = random_problem(5)
    found = limit_law(problem, samples, [30, 40])
    assert theory.pruned_risk(found, 0, criterion) == pytest.approx(problem.noise + problem.importance.sum())
    assert theory.pruned_risk(limit_law(problem, samples, [30]), 30, criterion) == pytest.approx(found.risk[:1])


@given(st.integers(0, 10_000), st.floats(0.1, 10), st.sampled_from([25, 70]))
@settings(max_examples=25, deadline=None)
def test_units_do_not_matter(seed, unit, samples):
    """Labels in another unit scale the risk; features in another unit do nothing."""
    one = random_problem(seed)
    louder = Problem(one.variances, one.coefficients * unit, one.noise * unit**2)
    wider = Problem(one.variances * unit**2, one.coefficients / unit, one.noise)
    expected = risks(theory.predict(one, samples, [40], 10))
    assert risks(theory.predict(louder, samples, [40], 10)).to_numpy() == pytest.approx(expected * unit**2)
    assert risks(theory.predict(wider, samples, [40], 10)).to_numpy() == pytest.approx(expected.to_numpy())


def test_with_equal_variances_magnitude_is_hessian():
    found = limit_law(fading(60, 20, 0.3), 30, [40, 60])
    assert theory.pruned_risk(found, 10, "magnitude") == pytest.approx(theory.pruned_risk(found, 10, "Hessian"))


def test_the_risk_grows_without_end_towards_the_threshold():
    found = limit_law(fading(2000, 100, 0.3), 1000, [900, 990, 999, 1001, 1010, 1100]).risk
    assert (np.diff(found[:3]) > 0).all() and (np.diff(found[3:]) < 0).all() and found[2:4].min() > 100


def test_a_grid_is_its_points():
    problem, sizes = random_problem(6), [10, 30, 40]
    together = pd.DataFrame(theory.predict(problem, 20, sizes, 8))
    alone = pd.concat([pd.DataFrame(theory.predict(problem, 20, [size], 8)) for size in sizes])
    order = ["estimator", "features"]
    pd.testing.assert_frame_equal(
        together.sort_values(order, ignore_index=True), alone.sort_values(order, ignore_index=True)
    )


def test_advantage_is_the_small_models_risk_over_the_pruned_fits():
    problem = random_problem(7)
    rows = theory.advantage(problem, 20, [10, 25, 40], [5, 12], "magnitude")
    assert [(row["ratio"], row["kept_ratio"]) for row in rows] == [
        (0.5, 0.25),
        (1.25, 0.25),
        (2.0, 0.25),
        (1.25, 0.6),  # 12 of 10 cannot be kept
        (2.0, 0.6),
    ]
    expected = (
        theory.informative_risk(problem, 20, 12) / theory.pruned_risk(limit_law(problem, 20, [40]), 12, "magnitude")[0]
    )
    assert 2 ** rows[-1]["advantage"] == pytest.approx(expected)


def test_a_fading_problem_is_as_described():
    problem = fading(100, 10, 0.3, spikes=5, spike=4.0, correlation=0.2)
    assert problem.variances.tolist() == [4.0] * 5 + [1.0] * 95
    assert problem.coefficients[10] ** 2 / problem.coefficients[0] ** 2 == pytest.approx(np.exp(-1))
    assert problem.coefficients @ problem.covariance @ problem.coefficients == pytest.approx(1)


# The simulation.


@pytest.mark.parametrize(("samples", "features"), [(10, 4), (10, 25)])
def test_the_fit_of_smallest_norm(samples, features):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(samples, features)), rng.normal(size=samples)
    assert theory.min_norm(x, y) == pytest.approx(np.linalg.lstsq(x, y)[0])


def test_retrained_fits_are_least_squares_on_the_kept_features_alone():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10, 6)), rng.normal(size=10)
    dense = np.array([3.0, -5, 1, 2, -4, 0])
    pruned, retrained = theory.pruned_fits(dense, x, y, np.abs(dense), 3)
    assert pruned.tolist() == [3, -5, 0, 0, -4, 0]
    assert retrained[[0, 1, 4]] == pytest.approx(np.linalg.lstsq(x[:, [0, 1, 4]], y)[0])
    assert (retrained[[2, 3, 5]] == 0).all()


def test_a_simulation_is_a_function_of_its_seed():
    problem = fading(20, 5, 0.3)
    one, again = (theory.simulate(problem, 8, [12, 20], 4, repeats=2, seed=1) for _ in range(2))
    assert one == again
    assert one[: len(one) // 2] == theory.simulate(problem, 8, [12, 20], 4, repeats=1, seed=1)
    other = theory.simulate(problem, 8, [12, 20], 4, repeats=2, seed=2)
    assert not {row["risk"] for row in one} & {row["risk"] for row in other}  # seed 1, repeat 1 is not seed 2, repeat 0
    assert {row["estimator"] for row in one} == {
        DENSE,
        *CRITERIA,
        RETRAINED("magnitude"),
        RETRAINED("Hessian"),
        INFORMATIVE,
    }


def test_the_relu_simulation_too():
    one, again = (theory.simulate_relu(5, 0.3, 8, [4, 12], 4, repeats=2, seed=1) for _ in range(2))
    assert one == again
    assert {row["estimator"] for row in one} == {DENSE, "magnitude", RETRAINED("magnitude"), SMALL}
    at_kept = [row["risk"] for row in one if row["features"] == 4 and row["repeat"] == 0]
    assert at_kept == pytest.approx([at_kept[0]] * 4)  # nothing is pruned


def test_retraining_hurts_without_correlation_and_helps_with_much():
    plain, alike = (
        risks(theory.simulate(fading(450, 190, 0.3, correlation=c), 150, [450], 75, repeats=10)) for c in (0, 0.97)
    )
    assert plain[RETRAINED("magnitude")] > plain["magnitude"] and alike[RETRAINED("magnitude")] < alike["magnitude"]


def test_every_row_has_its_setting():
    plain, alike = (fading(30, 12, 0.7, correlation=correlation) for correlation in (0.0, 0.2))
    correlated = theory.predict_correlated(alike, 10, 5) + theory.simulate(alike, 10, [20, 30], 5, repeats=1)
    for rows, correlation in ((theory.predict(plain, 10, [20, 30], 5), 0.0), (correlated, 0.2)):
        settings = {(row["features"], row["ratio"], row["noise"], row["correlation"]) for row in rows}
        assert settings == {(20, 2.0, 0.7, correlation), (30, 3.0, 0.7, correlation)}


# What is refused.

ONES = np.ones(10)


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (
            lambda: theory.solve_xi(fading(10, 5, 0.3), 10, [8]),
            "p/n = 8/10 = 0.8: the over-parameterised law holds for p > n",
        ),
        (lambda: theory.solve_xi(fading(10, 5, 0.3), 10, [10]), "p/n = 10/10 = 1: the over-parameterised law"),
        (lambda: limit_law(fading(10, 5, 0.3), 6, [4, 6]), "p = n = 6: the interpolation threshold"),
        (
            lambda: limit_law(fading(10, 5, 0.3, correlation=0.5), 6, [8]),
            "correlation = 0.5: the law .* needs a diagonal Σ",
        ),
        (
            lambda: limit_law(fading(10, 5, 0.3), 6, [11]),
            r"sizes = \[11\]: allowed: whole numbers of features, 1 to 10",
        ),
        (lambda: limit_law(fading(10, 5, 0.3), 6, [7.5]), "whole numbers of features"),
        (lambda: limit_law(fading(10, 5, 0.3), 6, []), "whole numbers of features"),
        (lambda: Problem(np.r_[ONES, 0], np.r_[ONES, 1], 0.3), "singular covariance: the variance of feature 10 is 0"),
        (lambda: Problem(ONES, ONES[:3], 0.3), r"\(10,\) variances, \(3,\) coefficients"),
        (lambda: Problem(ONES, ONES * np.nan, 0.3), "must be finite"),
        (lambda: Problem(ONES, ONES, -1), "noise = -1: a variance; allowed: 0 or more"),
        (lambda: Problem(ONES, ONES, 0.3, correlation=1.0), "correlation = 1: allowed: 0 to less than 1"),
        (
            lambda: theory.in_eigenbasis(np.ones((3, 3)), np.ones(3), 0.3),
            "singular covariance: its eigenvalues go from",
        ),
        (
            lambda: theory.pruned_risk(limit_law(fading(10, 5, 0.3), 6, [8]), 9, "magnitude"),
            "kept = 9: allowed: 0 to the smallest size, 8",
        ),
        (
            lambda: theory.simulate(fading(10, 5, 0.3), 6, [3, 8], 4, repeats=1),
            "kept = 4: allowed: 0 to the smallest size, 3",
        ),
        (lambda: theory.min_norm(np.ones((3, 2)), np.ones(3)), "singular Gram matrix of 3 samples and 2 features"),
    ],
)
def test_an_error_names_the_bad_value_and_the_allowed_ones(work, message):
    with pytest.raises(RegimeError, match=message):
        work()


def test_a_search_without_a_root_says_so(monkeypatch):
    assert np.isnan(_root(lambda x: x**2 + 1, np.array([0.0]), np.array([1.0]))).all()
    problem = fading(10, 5, 0.3)
    found = limit_law(problem, 6, [8])
    monkeypatch.setattr("dsdlib.theory.law._root", lambda excess, low, high, *more: np.full(low.shape, np.nan))
    with pytest.raises(RegimeError, match="no root ξ for p = 8, n = 6"):
        limit_law(problem, 6, [8])
    with pytest.raises(RegimeError, match="no threshold keeps 4 of 8 features"):
        theory.threshold(found, 4, "Hessian")


def test_only_magnitude_and_hessian_have_a_threshold():
    with pytest.raises(ValueError, match="criterion = 'oracle'"):
        theory.threshold(limit_law(fading(10, 5, 0.3), 6, [8]), 4, "oracle")


def test_theory_and_config_load_no_torch():
    program = "import sys, dsdlib.theory, dsdlib.config; assert not {'torch', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)

"""The linear problem's risks: changes and peaks that are known beforehand, and agreement by its definition."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from dsdlib.analysis import risks
from dsdlib.theory import RETRAINED

RATIOS = (0.5, 0.8, 1.25, 2.0, 4.0)


def table(risk, repeats=12, estimators=("magnitude",), ratios=RATIOS):
    """A row for each estimator, size (of 20 samples) and repeat, with the risk that a function of these three gives."""
    rows = [
        {"estimator": e, "features": round(20 * r), "ratio": r, "repeat": n, "risk": risk(e, r, n)}
        for e in estimators
        for r in ratios
        for n in range(repeats)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def test_a_change_is_of_mean_risks_and_pairs_the_data_sets():
    factor = {"dense": 3.0, "magnitude": 2.0}
    paired = table(lambda e, r, n: factor[e] * (1 + n), estimators=factor, ratios=(2.0,))
    change = risks.change(paired, "dense", "magnitude")
    assert (change.value, change.low, change.high) == pytest.approx((50, 50, 50)) and change.seeds == 12
    assert risks.change(paired, "magnitude", "dense").value == pytest.approx(-100 / 3)
    uneven = table(lambda e, r, n: {0: 1.0, 1: 5.0}[n] if e == "dense" else 2.0, 2, factor, (2.0,))
    assert risks.change(uneven, "dense", "magnitude").value == pytest.approx(50)  # a mean of ratios would be 50 as well
    swapped = risks.change(uneven, "magnitude", "dense")
    assert swapped.value == pytest.approx(-100 / 3)  # and here 20
    assert np.isnan(swapped.low)


def test_retraining_changes_the_mean_risk_of_magnitude_pruning():
    after = {0.5: 1.0, 0.8: 0.5, 1.25: 0.9, 2.0: 1.2, 4.0: 2.0}
    drawn = table(
        lambda e, r, n: r * (1 + n) * (after[r] if e == RETRAINED("magnitude") else 1),
        estimators=("magnitude", RETRAINED("magnitude"), "Hessian"),
    )
    expected = {ratio: 100 * (factor - 1) for ratio, factor in after.items()}
    assert risks.retraining(drawn, "ratio").to_dict() == pytest.approx(expected)


def test_a_peak_is_measured_against_its_higher_side():
    level = {0.5: 2.0, 0.8: 4.0, 1.25: 6.0, 2.0: 1.0, 4.0: 1.5}
    same = table(lambda e, r, n: level[r] * (1 + n) if e == "magnitude" else r, estimators=("magnitude", "dense"))
    height = risks.peak(same, "magnitude")
    assert (height.value, height.low, height.high) == pytest.approx((200, 200, 200))
    assert risks.peak(same, "dense").value <= 0  # it only rises


def test_noise_is_no_peak():
    """The risk falls with p, and the peaks of 200 data sets' own noise are in different places."""
    rng = np.random.default_rng(0)
    height = risks.peak(table(lambda e, r, n: np.exp(0.2 * rng.standard_normal()) / r, 200), "magnitude")
    assert height.value < 5 and height.low < 0


def test_the_best_size_is_chosen_by_theory_alone_and_beyond_the_threshold():
    theory = table(lambda e, r, n: abs(r - 2.6) + (e == "dense"), 1, ("magnitude", "dense"), (0.5, 1.5, 2.5, 3.5))
    theory = pd.concat([theory, pd.DataFrame([{"estimator": "magnitude", "features": 5, "ratio": 0.25, "risk": 0.0}])])
    assert risks.lowest(theory, "magnitude")["ratio"] == 0.25
    assert risks.lowest(theory, "dense")["risk"] == pytest.approx(1.1)
    rng = np.random.default_rng(0)
    simulated = table(lambda e, r, n: rng.random(), 3, ("magnitude", "dense"))
    chosen = risks.at_best_size(theory, simulated, "magnitude")
    assert set(chosen["ratio"]) == {2.0} and len(chosen) == 6  # of 1.25, 2.0 and 4.0


def test_the_first_win_is_the_smallest_size_with_an_advantage():
    rows = [(3.0, 0.5, 0.1), (2.0, 0.5, 0.2), (1.5, 0.5, -0.1), (1.1, 0.2, 0.3), (1.1, 0.5, 0.0)]
    advantages = pd.DataFrame(rows, columns=["ratio", "kept_ratio", "advantage"])
    assert risks.first_win(advantages, 0.5) == "from p/n = 2.00 on"
    assert risks.first_win(advantages, 0.2) == "from p/n = 1.10 on"
    assert risks.first_win(advantages, 0.7) == "at no p/n"


def test_agreement_is_closeness_or_coverage():
    drawn = {
        "close": (1.0, [1.02, 1.021, 1.019, 1.02]),  # 2% away, by a narrow interval
        "covered": (1.0, [0.8, 1.6, 0.9, 1.3]),  # 15% away, by a wide interval
        "neither": (1.0, [1.1, 1.11, 1.09, 1.1]),
    }
    rows = [
        {"estimator": name, "theory": theory, "risk": risk, "repeat": n}
        for name, (theory, values) in drawn.items()
        for n, risk in enumerate(values)
    ]
    found = risks.agreement(pd.DataFrame(rows)).set_index("estimator")
    assert found["agrees"].to_dict() == {"close": "yes", "covered": "yes", "neither": "no"}
    for name, (theory, values) in drawn.items():
        mean, half = np.mean(values), student.ppf(0.975, 3) * np.std(values, ddof=1) / 2
        expected = {"theory": theory, "simulated": mean, "low": mean - half, "high": mean + half}
        expected["difference"] = mean / theory - 1
        assert found.loc[name, list(expected)].to_dict() == pytest.approx(expected)

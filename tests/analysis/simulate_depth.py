"""Bias and coverage of the estimated depth of a valley, on simulated curves whose true depth is known.

Run it as ``python tests/analysis/simulate_depth.py [studies]``; the tests run a small part of it. The curves resemble
30 rounds of LeNet-300-100 on digits with 50% label noise, of which 80 were measured: a seed shifts its whole curve, and
test accuracy varies from round to round as a first-order autoregression whose standard deviation grows from 1.5 points
in the dense network to 2.7 points from round 12 on. Single curves without a valley then have prominences of about 7
points, as the measured ones have.
"""

import sys

import numpy as np

from dsdlib.analysis import depth_over_seeds, depths_by_seed, valley

ROUNDS = np.arange(30)
STD = np.interp(ROUNDS, [0, 12], [1.5, 2.7])
SHIFT, CORRELATION = 1.5, 0.3


def expected_curve(depth):
    """An expected test curve in points: a valley in round 12 or, for depth 0, a gentle fall; and a final collapse."""
    collapse = 35 / (1 + np.exp(2 * (27 - ROUNDS)))
    fall = depth * np.exp(-(((ROUNDS - 12) / 4) ** 2)) if depth else 0.1 * ROUNDS
    return 62 - fall - collapse


def draw(rng, studies, seeds, depth):
    """Simulated test curves, (studies, seeds, rounds)."""
    noise = rng.normal(size=(studies, seeds, len(ROUNDS)))
    for r in ROUNDS[1:]:
        noise[..., r] = CORRELATION * noise[..., r - 1] + np.sqrt(1 - CORRELATION**2) * noise[..., r]
    return expected_curve(depth) + SHIFT * rng.normal(size=(studies, seeds, 1)) + STD * noise


def simulate(depth, seeds, studies, rng, window=3):
    """The bias and the standard deviation of the raw depth, and the coverage of the interval."""
    true, curves = valley(expected_curve(depth)).depth, draw(rng, studies, seeds, depth)
    raw = np.array([depths_by_seed(study, window).mean() for study in curves])
    intervals = [depth_over_seeds(study, window) for study in curves]
    return raw.mean() - true, raw.std(), np.mean([found.low <= true <= found.high for found in intervals])


def prominence(depth, rng):
    """The mean prominence of single curves."""
    return np.mean([valley(curve).depth for curve in draw(rng, 1, 2000, depth)[0]])


def main(studies):
    print(f"{studies} studies each")
    for depth in (0, 5, 10):
        rng = np.random.default_rng(depth)
        print(f"true depth {depth}: single curves have prominences of {prominence(depth, rng):.1f} points on average")
        for seeds in (3, 5, 10, 20):
            bias, std, coverage = simulate(depth, seeds, studies, rng)
            print(f"  {seeds:2d} seeds: bias {bias:+.2f}, standard deviation {std:.2f}, coverage {coverage:.1%}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4000)

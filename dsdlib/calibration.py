"""Calibration: does a network classify 80% of those images correctly of which it is 80% certain?"""

import torch
from torch import Tensor


def calibration_error(confidence: Tensor, correct: Tensor, bins: int = 15) -> Tensor:
    """The expected calibration error (Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3).

    ``confidence`` (runs, n) is the largest softmax probability of each sample, and ``correct`` (runs, n) bool says
    whether the class with that probability is the label. A run's samples are sorted by their confidence into bins of
    equal width; bin b holds (b/bins, (b+1)/bins]. The error is the mean over samples of |accuracy − mean confidence| of
    their bin, a fraction between 0 and 1. Returns (runs,) in float64, which is not a number for a run that has no
    samples or a confidence that is not a number.
    """
    runs, n = confidence.shape
    gaps = correct.double() - confidence.double()
    place = (confidence.double() * bins).ceil().nan_to_num().clamp_(1, bins).long() - 1
    sums = torch.zeros(runs, bins, dtype=torch.float64, device=confidence.device).scatter_add_(1, place, gaps)
    return sums.abs().sum(1) / n if n else sums.sum(1) + torch.nan

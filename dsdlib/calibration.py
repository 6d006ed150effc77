"""Calibration: does a network that is 80% sure answer 80% of the images correctly?"""

import torch
from torch import Tensor


def calibration_error(confidence: Tensor, correct: Tensor, bins: int = 15) -> Tensor:
    """The expected calibration error (Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3).

    The samples of a run are sorted into bins of equal width by their confidence: bin b holds (b/bins, (b+1)/bins].
    The error is the mean over samples of |accuracy − mean confidence| of their bin, a fraction between 0 and 1.
    ``confidence`` is (runs, n), the largest probability of each answer; ``correct`` (runs, n) bool says whether that
    answer was right. Returns (runs,) in float64: not a number for a run without samples, or with such a confidence.
    """
    runs, n = confidence.shape
    gaps = correct.double() - confidence.double()
    place = (confidence.double() * bins).ceil().nan_to_num().clamp_(1, bins).long() - 1
    sums = torch.zeros(runs, bins, dtype=torch.float64, device=confidence.device).scatter_add_(1, place, gaps)
    return sums.abs().sum(1) / n if n else sums.sum(1) + torch.nan

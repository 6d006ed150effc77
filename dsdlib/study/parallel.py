"""How many worker processes joblib is to use."""

from __future__ import annotations

import joblib

from dsdlib.config import ConfigError


def worker_count(jobs: int) -> int:
    """The number of worker processes that ``jobs`` stands for: a number, or −1 for one a core.

    It never exceeds the number of cores of this machine, or of the cluster that joblib's `parallel_config` names.
    Raises `ConfigError` for any other value.
    """
    if type(jobs) is not int or (jobs < 1 and jobs != -1):
        raise ConfigError(f"jobs = {jobs!r}: a whole number from 1, or -1 for one a core")
    return max(1, min(joblib.effective_n_jobs(jobs), joblib.effective_n_jobs(-1)))

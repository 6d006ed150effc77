"""How many worker processes joblib is to use."""

from __future__ import annotations

import joblib
from joblib.parallel import SequentialBackend, get_active_backend

from dsdlib.config import ConfigError


def worker_count(jobs: int) -> int:
    """The number of worker processes that ``jobs`` stands for: a number, or −1 for one a core.

    It never exceeds the number of cores of this machine, or of the cluster that joblib's `parallel_config` names.
    Raises `ConfigError` for any other value, and if joblib is to use threads: PyTorch's number of threads, its
    precision and its compiled code belong to a process, so that stacks in threads would change each other's numbers.
    """
    if type(jobs) is not int or (jobs < 1 and jobs != -1):
        raise ConfigError(f"jobs = {jobs!r}: a whole number from 1, or -1 for one a core")
    backend, _ = get_active_backend()
    if getattr(backend, "uses_threads", False) and not isinstance(backend, SequentialBackend):
        raise ConfigError(
            "parallel_config: backend 'threading': runs need processes; allowed: 'loky', 'multiprocessing'"
        )
    return max(1, min(joblib.effective_n_jobs(jobs), joblib.effective_n_jobs(-1)))

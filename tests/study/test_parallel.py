"""How many processes, and of which kind."""

import joblib
import pytest

from dsdlib.study.parallel import worker_count


def test_there_are_never_more_processes_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker_count(1) == 1 and worker_count(-1) == worker_count(100_000) == joblib.cpu_count()
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert worker_count(-1) == worker_count(8) == 1

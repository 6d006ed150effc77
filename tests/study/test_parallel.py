"""How many processes, and of which kind."""

from collections.abc import Callable
from pathlib import Path

import joblib
import pytest

from dsdlib import ConfigError, RunConfig, sweep
from dsdlib.study import landscape
from dsdlib.study.parallel import worker_count


def test_there_are_never_more_processes_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker_count(1) == 1 and worker_count(-1) == worker_count(100_000) == joblib.cpu_count()
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert worker_count(-1) == worker_count(8) == 1


@pytest.mark.parametrize("how", [{"backend": "threading"}, {"prefer": "threads"}, {"require": "sharedmem"}])
@pytest.mark.parametrize("jobs", [1, 2])
def test_threads_are_refused_by_name(how: dict[str, str], jobs: int, tiny: RunConfig, results: Path) -> None:
    message = "backend 'threading': runs need processes; allowed: 'loky', 'multiprocessing'"
    with joblib.parallel_config(**how):
        with pytest.raises(ConfigError, match=message):
            sweep(tiny.grid(seed=[0, 1]), jobs=jobs, progress=False)
        with pytest.raises(ConfigError, match=message):
            landscape.slices([tiny], jobs=jobs, progress=False)
    assert not results.exists()


def test_other_processes_give_the_same_numbers(tiny: RunConfig, tmp_path: Path, alike: Callable) -> None:
    runs = tiny.grid(seed=[0, 1])
    alone = sweep(runs, results=tmp_path / "alone", progress=False)
    with joblib.parallel_config("multiprocessing"):
        alike(sweep(runs, jobs=2, results=tmp_path / "together", progress=False), alone)

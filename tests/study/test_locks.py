"""Locks on runs: held by one process at a time, released by the dead, and named where they cannot be made."""

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dsdlib import ConfigError
from dsdlib.study.locks import hold, holder


def test_a_lock_is_held_by_one_at_a_time_and_several_times_by_the_same_thread(tmp_path: Path) -> None:
    def others() -> set[str]:
        with hold(tmp_path, {"a", "b", "c"}, wait=False) as held:
            return held

    with ThreadPoolExecutor() as another, hold(tmp_path, {"a", "b"}) as mine:
        assert mine == {"a", "b"} and another.submit(others).result() == {"c"}
        with hold(tmp_path, {"a"}, wait=False) as again:
            assert again == {"a"}
        assert another.submit(others).result() == {"c"}
    assert others() == {"a", "b", "c"}


def test_the_holder_of_a_lock_is_named_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from dsdlib.study.locks import hold\n"
        "with hold(pathlib.Path(sys.argv[1]), {'a'}):\n    print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    assert holder(tmp_path, "a").startswith(f"process {process.pid} on ") and holder(tmp_path, "b") is None
    with hold(tmp_path, {"a"}, wait=False) as held:
        assert held == set()
    process.kill()
    process.communicate()
    with hold(tmp_path, {"a"}, wait=False) as held:
        assert held == {"a"} and f"process {process.pid} " not in holder(tmp_path, "a")
    assert holder(tmp_path, "a") is None


def test_a_lock_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / ".locks" / "a.lock").mkdir(parents=True)
    (tmp_path / "file").touch()
    for folder in (tmp_path / ".locks", tmp_path / "file" / ".locks"):
        with (
            pytest.raises(ConfigError, match=rf"results = '{folder.parent}': run a cannot be locked \(.*a directory"),
            hold(folder, {"a"}),
        ):
            pass


@pytest.mark.parametrize("wait", [True, False])
def test_a_folder_without_flock_is_refused_by_name_even_with_old_lock_files(
    wait: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    for room in ("fcntl", "dsdlib.study.locks"):
        monkeypatch.setattr(f"{room}.flock", refuse)
    (tmp_path / "a.lock").touch()  # as copied from a folder with flock
    message = "run a cannot be locked .*Function not implemented"
    with pytest.raises(ConfigError, match=message), hold(tmp_path, {"a"}, wait):
        pass

"""What killed reports leave behind."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock

from dsdlib.report.execute import execute_all, remove_abandoned


def test_scratch_folders_of_killed_reports_are_removed_and_those_in_use_stay(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in (".running-dead", ".running-older", ".running-alive")]
    for folder in folders:
        folder.mkdir()
        (folder / "01_phenomenon.ipynb").write_text("{}")
    (folders[0] / ".lock").touch()
    with FileLock(folders[2] / ".lock"), ThreadPoolExecutor() as other:  # to a lock, another thread is another process
        other.submit(remove_abandoned, tmp_path).result()
    assert list(tmp_path.iterdir()) == [folders[2]]
    execute_all({}, tmp_path, tmp_path, 1, print)
    assert list(tmp_path.iterdir()) == []

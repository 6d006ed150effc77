"""What is stored about the machine, the versions and the commit."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch

from dsdlib import RunConfig, data, sweep
from dsdlib.study.provenance import describe_machine
from dsdlib.study.store import Store

CPU = torch.device("cpu")


def test_the_provenance_of_a_run_names_data_machine_and_versions(tiny: RunConfig) -> None:
    sweep([tiny], progress=False)
    (entry,) = Store().provenance(tiny)
    assert entry["data_sha256"] == data.load("digits").checksum() and entry["device"] == "cpu"
    assert entry["versions"]["torch"] == version("torch") and entry["python"] and entry["started"]


def test_a_run_that_is_resumed_has_an_entry_for_each_time(tiny: RunConfig, results: Path, stop_after: Callable) -> None:
    stop_after(1, results, tiny)
    (first,) = Store(results).provenance(tiny)
    sweep([tiny], progress=False)
    entries = Store(results).provenance(tiny)
    assert len(entries) == 2 and entries[0] == first and entries[1]["started"] >= first["started"]


def test_a_tree_that_is_not_installed_has_a_provenance_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def uninstalled(name: str) -> str:
        if name == "dsdlib":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("dsdlib.study.provenance.version", uninstalled)
    assert describe_machine(CPU)["versions"] | {"dsdlib": "not installed"} == describe_machine(CPU)["versions"]


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert describe_machine(CPU)["commit"] is None

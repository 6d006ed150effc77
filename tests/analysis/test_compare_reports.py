"""The comparison of two reports: which rows differ, and which of these nothing marks."""

import runpy
from pathlib import Path

import pandas as pd
import pytest

compare_reports = runpy.run_path(str(Path(__file__).with_name("compare_reports.py")))


def report(path, *verdicts):
    """The claims of a report, all with one id; a star marks a verdict as fragile."""
    rows = [
        {"id": "deep", "where": f"row {n}", "verdict": verdict.rstrip("*"), "fragile": verdict.endswith("*")}
        | {"effect": 3.0, "low": 2.5, "high": None if verdict == "nothing to judge" else 3.5, "unit": "points"}
        for n, verdict in enumerate(verdicts)
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return str(path)


@pytest.mark.parametrize(
    ("one", "other", "mark"),
    [
        ("supported", "supported", "  "),
        ("supported*", "undecided", "~ "),
        ("supported*", "does not hold here*", "~ "),
        ("undecided", "nothing to judge", "~ "),
        ("supported", "undecided", "!!"),
        ("nothing to judge", "contradicted", "!!"),
        ("supported*", "does not hold here", "!!"),
    ],
)
def test_a_decided_verdict_that_is_not_fragile_must_not_differ(one, other, mark, tmp_path, capsys):
    paths = report(tmp_path / "one.csv", "undecided", one), report(tmp_path / "other.csv", "undecided", other)
    for pair in (paths, paths[::-1]):
        assert compare_reports["main"](pair) == (mark == "!!")
        same, row, total = capsys.readouterr().out.splitlines()
        assert same.startswith("   deep | row 0 | ? 3.00 points") and row.startswith(f"{mark} deep | row 1 | ")
        assert total.startswith("2 claims;")


def test_a_claim_that_only_one_report_has_differs(tmp_path, capsys):
    paths = report(tmp_path / "one.csv", "supported"), report(tmp_path / "other.csv", "supported", "supported")
    assert compare_reports["main"](paths) == 1
    assert "!! deep | row 1 | not there | yes" in capsys.readouterr().out

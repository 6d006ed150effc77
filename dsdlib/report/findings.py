"""Claims of one or several reports, brought together: the matrix of statements and reports, and their tallies."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from dsdlib.analysis.claims import ABSENT, CONTRADICTED, NOTHING_TO_JUDGE, VERDICTS, decided, effect, wrong_by_chance

MIXED = "mixed"
Found = dict[str, Any]  # a row of `dsdlib.analysis.claims.judge`


def status(claims: Iterable[Found]) -> str:
    """One word for what was found about a statement: the verdict if all that could be judged agree, else *mixed*."""
    verdicts = {claim["verdict"] for claim in claims} - {NOTHING_TO_JUDGE}
    return MIXED if len(verdicts) > 1 else next(iter(verdicts), NOTHING_TO_JUDGE)


def matrix(reports: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each claim of the papers' or of ours, in order of appearance by paper, with a cell for each report.

    A report has its ``claims``. A cell holds the rows of `judge` for that claim and report, their `status`, and a
    ``summary`` of their effects in words.
    """
    claims = {claim["id"]: claim for report in reports for claim in report["claims"]}
    papers = list(dict.fromkeys(claim["paper"] for claim in claims.values()))
    rows = []
    for name, claim in claims.items():
        found = [[each for each in report["claims"] if each["id"] == name] for report in reports]
        cells = [{"claims": own, "status": status(own), "summary": _summary(own)} for own in found]
        about = {key: claim[key] for key in ("id", "statement", "paper", "section", "statistic", "hypothesis")}
        rows.append(about | {"order": papers.index(claim["paper"]), "cells": cells, "status": status(chain(*found))})
    return sorted(rows, key=lambda row: row["order"])


def _summary(claims: Sequence[Found]) -> str:
    """The effect of one claim, or why there is none; of several, how many there are of each verdict."""
    if len(claims) == 1:
        return effect(claims[0]) if claims[0]["effect"] is not None else claims[0]["reason"]
    return count_words(Counter(claim["verdict"] for claim in claims), VERDICTS)


def count_words(counts: Counter, order: Sequence[str]) -> str:
    """The counts that are not zero, in the given order: "5 supported, 2 do not hold here"."""
    words = {name: name if counts[name] == 1 else name.replace("does", "do") for name in order}
    return ", ".join(f"{counts[name]} {words[name]}" for name in order if counts[name])


def tally(claims: Sequence[Found]) -> str:
    """The number of claims by verdict, in words: "7 claims: 5 supported, 2 undecided"."""
    counts = Counter(claim["verdict"] for claim in claims)
    return f"{len(claims)} claim{'' if len(claims) == 1 else 's'}: {count_words(counts, VERDICTS)}"


def by_paper(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Paper → how many of its statements there are and of which status, in words, and those that do not hold."""
    found: dict[str, dict[str, Any]] = {}
    for paper in dict.fromkeys(row["paper"] for row in rows):
        own = [row for row in rows if row["paper"] == paper]
        counts = Counter(row["status"] for row in own)
        fails = [row for row in own if row["status"] in (ABSENT, CONTRADICTED)]
        order = (*VERDICTS[:3], MIXED, *VERDICTS[3:])
        found[paper] = {"count": len(own), "words": count_words(counts, order), "fails": fails}
    return found


def chance(claims: Sequence[Found]) -> str:
    """How many verdicts are decided, how many of them chance may have made, and how many are fragile, in words."""
    counts = [sum(map(decided, claims)), sum(claim.get("fragile", False) for claim in claims)]
    verdicts, marks = (f"{count} {'is' if count == 1 else 'are'}" for count in counts)
    return (
        f"{verdicts} decided. If every effect lay at its threshold, {wrong_by_chance(claims):.1f} verdicts would be "
        f"wrong by chance, 2.5% of the claims that could be judged. {marks} marked fragile: with "
        "other seeds, the same verdict would be found with a probability of less than 99%."
    )


def common_and_own(rows: dict[str, dict[str, str]]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """What most rows share, and what each row has of its own.

    For each field the value of most rows is common, if more than one row has it. The second result holds, for every
    row, the fields whose value is another.
    """
    common = {}
    for field in dict.fromkeys(field for row in rows.values() for field in row):
        value, count = Counter(row[field] for row in rows.values() if field in row).most_common(1)[0]
        if count > 1 or len(rows) == 1:
            common[field] = value
    own = {name: {f: v for f, v in row.items() if common.get(f) != v} for name, row in rows.items()}
    return common, own

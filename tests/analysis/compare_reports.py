"""Compare the claims of two reports that were made from different seeds.

Run it as ``python tests/analysis/compare_reports.py one/digits/data/claims.csv other/digits/data/claims.csv``. It
prints a row for each claim: the verdict of both reports, with a star if it is marked *fragile*, and the effects. A row
that differs is marked by ~, and by !! if one of its two verdicts is decided and not fragile. Then the exit code is 1.
"""

import sys

import pandas as pd

from dsdlib.analysis.claims import decided, effect

SHORT = {
    "supported": "yes",
    "does not hold here": "no",
    "contradicted": "no!",
    "undecided": "?",
    "nothing to judge": "–",
}


def read(path):
    """The claims of a report, by their id and their number among the claims with that id."""
    table = pd.read_csv(path, keep_default_na=False, na_values={name: [""] for name in ("effect", "low", "high")})
    table["number"] = table.groupby("id").cumcount()
    return table.set_index(["id", "number"])


def summary(claim):
    """Verdict, effect and whether the verdict is fragile, in words."""
    shown = effect(claim.where(claim.notna(), None))
    return f"{SHORT[claim['verdict']]}{'*' if claim['fragile'] else ''} {shown}"


def compare(one, other):
    """A row for each claim of either report, and whether it ``differs``, and does so although nothing marks it."""
    rows = []
    for name in one.index.union(other.index, sort=False):
        pair = [table.loc[name] for table in (one, other) if name in table.index]
        firm = any(decided(claim) and not claim["fragile"] for claim in pair)
        differs = len({claim["verdict"] for claim in pair}) > 1 or len(pair) < 2
        texts = [summary(table.loc[name]) if name in table.index else "not there" for table in (one, other)]
        rows.append({"claim": name[0], "where": pair[0]["where"], "one": texts[0], "other": texts[1]})
        rows[-1] |= {"differs": differs, "unmarked": differs and firm}
    return pd.DataFrame(rows)


def main(paths):
    """The exit code: 1 if a verdict differs that is decided and not marked fragile."""
    table = compare(*map(read, paths))
    for row in table.itertuples():
        mark = "!!" if row.unmarked else "~" if row.differs else ""
        print(f"{mark:2} {row.claim} | {row.where} | {row.one} | {row.other}")
    print(f"{len(table)} claims; {table['differs'].sum()} verdicts differ, {table['unmarked'].sum()} of them unmarked")
    return int(table["unmarked"].any())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The curves behind a report's figures, as the embedded table of the page's own explorer."""

import io
import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from dsdlib.plots.series import MEMORISED, PARTS, Line, SeriesStyle, series_styles

DASHES = {"-": "", "--": "6 3", ":": "1.5 2.5", "-.": "7 2.5 1.5 2.5"}  # matplotlib's line styles in SVG


def curves_table(reports: Sequence[dict[str, Any]]) -> str:
    """All curves against sparsity in the figures of several reports, as JSON.

    The table is a list of figures with ``name``, ``page``, ``csv`` and ``curves``. Each curve has its ``panel``,
    ``measure`` and ``series``, its ``colour`` and ``dash``, and the lists ``x``, ``mean`` and, if there are intervals,
    ``low`` and ``high``. Numbers are rounded to four decimals.
    """
    figures = [
        {
            "name": f"{report['profile']} {figure['number']}: {figure['shows']}",
            "page": f"{report['base']}{figure['page']}#{figure['id']}",
            "csv": report["base"] + figure["csv"],
            "curves": found,
        }
        for report in reports
        for section in report["sections"]
        for figure in section["figures"]
        if figure["csv"] and (found := _curves(pd.read_csv(io.StringIO(figure["data"]), dtype={"series": str})))
    ]
    return json.dumps(figures, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c") if figures else ""


def _curves(data: pd.DataFrame) -> list[dict[str, Any]]:
    """The curves of one figure; none if it is not drawn against sparsity."""
    if not {"sparsity", "mean", "series"} <= set(data):
        return []
    data = data.assign(**{name: data[name].fillna("") if name in data else "" for name in ("panel", "measure")})
    data["measure"] = data.groupby("panel")["measure"].transform(_together)
    styles = _styles(data["series"])
    found = []
    for (panel, measure, series), part in data.groupby(["panel", "measure", "series"], sort=False):
        rows = part.dropna(subset=["sparsity", "mean"]).sort_values("sparsity")
        own = styles[series]
        curve = {"panel": panel, "measure": measure, "series": own.label, "colour": own.colour, "dash": _dash(own.line)}
        curve |= {"x": _rounded(rows["sparsity"], 6), "mean": _rounded(rows["mean"])}
        if {"low", "high"} <= set(rows) and rows["low"].notna().all():
            curve |= {end: _rounded(rows[end]) for end in ("low", "high")}
        found.append(curve)
    return found


def _together(measures: pd.Series) -> pd.Series | str:
    """One name for the measures of a panel, if all of them are accuracies, and so belong on the same axes."""
    named = measures[measures != ""]
    return "accuracy" if named.str.contains("accuracy").all() else measures


def _styles(names: pd.Series) -> dict[str, SeriesStyle]:
    """The style of each series as in the figures: numbers have shades of one colour, in ascending order."""
    unique = names.drop_duplicates()
    numbers = pd.to_numeric(unique.str.rstrip("%"), errors="coerce")
    if numbers.isna().any():
        measures = {own.label: own for own in (*PARTS.values(), *MEMORISED.values())}
        return series_styles(unique) | {name: measures[name] for name in unique if name in measures}
    shades = series_styles(numbers)
    return {name: shades[number]._replace(label=name) for name, number in zip(unique, numbers, strict=True)}


def _dash(line: Line) -> str:
    return DASHES[line] if isinstance(line, str) else " ".join(f"{1.5 * length:g}" for length in line[1])


def _rounded(column: pd.Series, decimals: int = 4) -> list[float]:
    return [round(value, decimals) for value in column.tolist()]

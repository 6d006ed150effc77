"""Output of notebooks: figures, tables, claims and provenance. Each output is HTML for JupyterLab and, under a
mimetype of its own, structured data for the report's pages."""

from __future__ import annotations

import base64
import io
import re
from collections import defaultdict
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import scipy
from IPython.display import Markdown, display
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from pandas.api.types import is_float_dtype, is_integer_dtype

from dsdlib.analysis.claims import effect, threshold
from dsdlib.config import RunConfig
from dsdlib.plots.data import drawn
from dsdlib.plots.labels import label_curves
from dsdlib.study.provenance import describe_machine
from dsdlib.study.store import Store

if TYPE_CHECKING:
    import torch

    from dsdlib.data import Dataset

FIGURE, CLAIMS, PROVENANCE, NOTHING = (
    f"application/vnd.dsdlib.{kind}+json" for kind in ("figure", "claims", "provenance", "nothing")
)
LARGE = 100_000  # bytes


def show_figure(ax: Axes, shows: str, finding: str, key: bool = False) -> None:
    """Show the figure that ``ax`` belongs to, with a caption and an alternative text, and close it.

    The report's pages link the figure to the data that the functions of `dsdlib.plots` have drawn in it.

    ``shows`` says what the axes show, without a full stop ("Test accuracy against sparsity for each λ"). ``finding`` is
    the caption: whole sentences that say what this figure's numbers are. The alternative text is both. ``key`` puts the
    figure on the report's front page.
    """
    figure = ax.figure
    label_curves(figure)
    alt, source, width = f"{shows}. {finding}", image_source(figure), round(figure.get_figwidth() * 100)
    data = drawn(figure)
    plt.close(figure)
    _show(
        f'<figure><img alt="{escape(alt)}" src="{source}" width="{width}">'
        f"<figcaption>{escape(finding)}</figcaption></figure>",
        alt,
        FIGURE,
        {"alt": alt, "shows": shows, "caption": finding, "key": key, "source": source, "width": width}
        | ({} if data.empty else {"data": data.to_csv(index=False, float_format="%.7g")}),
    )


def image_source(figure: Figure) -> str:
    """A figure as a data URI: as SVG, or as PNG if the SVG is large and the PNG smaller.

    Text stays text in SVG. matplotlib sets it in a wide font, so that it fits in whatever font a reader has.
    """
    options = {"bbox_inches": "tight", "facecolor": "white"}
    vectors = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "dsdlib"}):
        figure.savefig(vectors, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")), **options)
    kind, image = "svg+xml", re.sub(rb">\s+<", b"><", vectors.getvalue())
    if len(image) > LARGE:
        pixels = io.BytesIO()
        figure.savefig(pixels, format="png", dpi=200, **options)
        kind, image = min((kind, image), ("png", pixels.getvalue()), key=lambda each: len(each[1]))
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def show_recipe(*configs: RunConfig) -> None:
    """Show how runs are trained and pruned, as a table that the reader can unfold: a row for each field of `RunConfig`,
    a column for each configuration."""
    fields = [name for name in RunConfig.model_fields if name not in ("seed", "start", "teacher")]
    table = pd.DataFrame({f"Recipe {n}": [str(getattr(c, f)) for f in fields] for n, c in enumerate(configs, 1)})
    table.insert(0, "Field", fields)
    table["Meaning"] = [RunConfig.model_fields[name].description or "" for name in fields]
    html = table.to_html(border=0, index=False)
    _show(f"<details><summary>The full recipe</summary>{html}</details>", table.to_string(index=False), None, None)


def show_claims(claims: list[dict[str, Any]]) -> None:
    """Show claims (rows of `dsdlib.analysis.claims.judge`) with their effects and verdicts as a table."""
    rows = [
        {
            "Claim": claim["statement"],
            "Paper": claim["paper"],
            "Measured": f"{claim['where']}: {claim['statistic']}; expected {threshold(claim)}",
            "Effect [95% interval]": effect(claim),
            "Verdict": f"{claim['verdict']}: {claim['reason']}" if claim["reason"] else claim["verdict"],
        }
        for claim in claims
    ]
    table = pd.DataFrame(rows)
    html = table.to_html(border=0, index=False, classes="claims")
    _show(html, table.to_string(index=False), CLAIMS, claims)


def show_table(table: pd.DataFrame, **formats: str) -> None:
    """Show a small table. Fractions are shown in percent, whole numbers with separators, FLOPs with a prefix.

    ``formats`` gives a column a format of its own: ``trainings="{:.1f}"``. Columns named ``raw_…`` are not shown.
    """
    table = table.drop(columns=[name for name in table if str(name).startswith("raw_")])
    cells = pd.DataFrame({_spoken(name): table[name].map(_writer(table[name], formats.get(name))) for name in table})
    _show(cells.to_html(border=0, index=False), cells.to_string(index=False), None, None)


def _writer(column: pd.Series, form: str | None) -> Callable[[object], str]:
    """A function that formats a column's values."""
    if form is not None:
        write = form.format
    elif column.name.endswith(("flops", "flops_sparse")):
        write = EngFormatter("FLOP", places=1)
    else:
        write = "{:.1%}".format if is_float_dtype(column) else "{:,}".format if is_integer_dtype(column) else str
    return lambda value: "–" if pd.isna(value) else write(value)


def show_text(text: str) -> None:
    """Show a paragraph of Markdown."""
    display(Markdown(text))


def show_nothing(reason: str) -> None:
    """Say why there is nothing to show. The report's pages leave out a part that shows nothing else."""
    _show(f"<p>{escape(reason)}</p>", reason, NOTHING, {"reason": reason})


def _spoken(column: str) -> str:
    return column.replace("_", " ")


def show_provenance(table: pd.DataFrame, runs: list[RunConfig]) -> None:
    """Show where a notebook's numbers come from: data, runs, time, machine, versions, commit."""
    store = Store()
    sessions = [(run, session) for run in runs for session in store.provenance(run)]
    made = [session for _, session in sessions]
    unique = {name: sorted({str(p[name]) for p in made}) for name in ("device", "processor", "commit", "python")}
    versions = sorted({" ".join(f"{k} {v}" for k, v in sorted(p["versions"].items())) for p in made})
    data = sorted({f"{run.dataset} (SHA-256 {p['data_sha256'][:16]}…)" for run, p in sessions})
    count = table["key"].nunique()
    facts = {
        "Data": ", ".join(data),
        "Runs": f"{count} run{'s' * (count != 1)}, {len(table)} trainings",
        "Source": source({run.key: session for run, session in sessions}),
        "Training time": f"{table['seconds'].sum():,.0f} s, summed over runs",
        "Device": ", ".join(unique["device"]),
        "Processor": ", ".join(unique["processor"]),
        "Arithmetic": ", ".join(sorted({p.get("engine", "float32") for p in made})),
        "Versions": "; ".join([*versions, f"Python {', '.join(unique['python'])}"]),
        "Commit": ", ".join(unique["commit"]),
    }
    _show_facts(facts)


def source(last: dict[str, dict[str, Any]]) -> str:
    """Whether runs were trained here or published, and when, in words; ``last`` has each run's last session."""
    days = defaultdict(list)
    for session in last.values():
        place = f"published in {session['published']}, trained" if "published" in session else "trained here"
        days[place].append(session["started"][:10])
    return "; ".join(
        f"{len(when)} run{'s' * (len(when) != 1)} {place} on {' to '.join(sorted({min(when), max(when)}))}"
        for place, when in sorted(days.items())
    )


def show_machine(device: torch.device, dataset: Dataset) -> None:
    """Show where a notebook's timings come from, if it took them itself."""
    machine = describe_machine(device)
    _show_facts(
        {
            "Data": f"{dataset.name} (SHA-256 {dataset.checksum()[:16]}…)",
            "Device": machine["device"],
            "Processor": machine["processor"],
            "Versions": " ".join(f"{k} {v}" for k, v in machine["versions"].items()) + f"; Python {machine['python']}",
            "Commit": str(machine["commit"]),
        }
    )


def show_versions(data: str) -> None:
    """Show where numbers come from that a notebook computed itself, from random ``data``."""
    machine = describe_machine("cpu")
    _show_facts(
        {
            "Data": data,
            "Processor": machine["processor"],
            "Versions": f"numpy {np.__version__} scipy {scipy.__version__}; Python {machine['python']}",
            "Commit": str(machine["commit"]),
        }
    )


def _show_facts(facts: dict[str, str]) -> None:
    rows = "".join(f"<tr><th>{name}</th><td>{escape(fact)}</td></tr>" for name, fact in facts.items())
    _show(f"<table>{rows}</table>", "\n".join(f"{n}: {f}" for n, f in facts.items()), PROVENANCE, facts)


def _show(html: str, text: str, mimetype: str | None, structured: object) -> None:
    bundle = {"text/html": html, "text/plain": text}
    display(bundle | ({mimetype: structured} if mimetype else {}), raw=True)

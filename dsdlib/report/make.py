"""The report of one profile: its notebooks run, and its pages brought up to date after each."""

from pathlib import Path
from typing import Any

from dsdlib.report.contents import title
from dsdlib.report.execute import execute_all
from dsdlib.report.pages import render, render_all


def make(plan: dict[str, dict[str, Any]], folder: Path, root: Path, at_once: int) -> bool:
    """Run the notebooks of one profile. Its pages are there from the start and brought up to date after each section.

    Returns whether all notebooks succeeded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pending = {name: title(root / "notebooks" / f"{name}.ipynb") for name in plan}
    print(f"{folder.name}: {render(folder, pending, ())} is brought up to date after each section", flush=True)

    def finished(name: str) -> None:
        del pending[name]
        if pending:
            render(folder, pending, (name,))

    try:
        return execute_all(plan, folder, root, at_once, finished)
    finally:
        render(folder)
        render_all(folder.parent)

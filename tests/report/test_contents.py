"""What the pages read from an executed notebook: its parts, its figures, and where their numbers come from."""

from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from dsdlib.report.contents import describe, shown_cells, split_at_headings
from dsdlib.report.show import FIGURE, NOTHING, PROVENANCE

PIXEL = "data:image/png;base64,iVBORw0KGgo="


def shown(kind, structured):
    return new_code_cell("1", outputs=[new_output("display_data", data={"text/html": "", kind: structured})])


def figure(caption):
    return shown(FIGURE, {"alt": "A", "shows": "A", "caption": caption, "key": False, "source": PIXEL, "width": 8})


def notebook(facts):
    cells = [
        new_markdown_cell("# Title\n\n## The curves\n\nText."),
        figure("It falls."),
        new_markdown_cell("More text.\n\n## Beside the published\n\nNothing is left of this."),
        shown(NOTHING, {"reason": "none"}),
        new_markdown_cell("## The end"),
        figure("It ends."),
        shown(PROVENANCE, facts),
    ]
    return split_at_headings(new_notebook(cells=cells))


def test_a_part_begins_at_its_heading_wherever_that_stands_and_is_left_out_if_it_shows_nothing():
    made = notebook({})
    texts = [cell.source.strip() for cell in made.cells if cell.cell_type == "markdown"]
    left_out = "## Beside the published\n\nNothing is left of this."
    assert texts == ["# Title", "## The curves\n\nText.", "More text.", left_out, "## The end"]
    assert len({cell.id for cell in made.cells}) == len(made.cells)
    kept = shown_cells(made)
    assert [cell.source.strip() for n, cell in enumerate(made.cells, 1) if n not in kept] == [left_out, "1"]
    assert [each["part"] for each in describe("01_x", made)["figures"]] == ["The curves", "The end"]


def test_a_figure_says_whether_its_runs_were_trained_here_when_and_on_what():
    facts = {"Source": "3 runs trained here on 2026-01-02", "Device": "cpu", "Processor": "Fast"}
    origins = {each["origin"] for each in describe("01_x", notebook(facts))["figures"]}
    assert origins == {"Runs of this section: 3 runs trained here on 2026-01-02, on cpu, Fast"}
    drawn = describe("11_x", notebook({"Processor": "Fast"}))["figures"]
    assert {each["origin"] for each in drawn} == {"Computed for this page, on Fast"}
    assert {each["origin"] for each in describe("13_x", notebook({}))["figures"]} == {""}

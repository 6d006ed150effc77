"""The panels that follow the cursor: wrong labels, the first layer's mask, the round's epochs, advice."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as w
import pandas as pd

from dsdlib.config import RunConfig
from dsdlib.explorer import pictures
from dsdlib.explorer.figures import EpochFigure, svg
from dsdlib.explorer.html import legend, mask_picture, note, picture, thumbnails
from dsdlib.study.store import Store

KEEP = "Train it with sweep(runs, keep=['history', 5, 10, …]), or in the tab Train, to store them."


class Panels:
    """The right column, for one run and the round at the cursor."""

    def __init__(self, store: Store):
        self.store, self.figure = store, EpochFigure()
        self.images, self.mask, self.epochs = w.HTML(), w.HTML(), w.HTML()
        titles = ("Training images with wrong labels", "First layer: weights left", "Epochs of the round")
        self.box = w.VBox()
        parts = zip(titles, (self.images, self.mask, self.epochs), strict=True)
        self.box.children = [child for title, part in parts for child in (w.HTML(f"<h3>{title}</h3>"), part)]

    def show(self, config: RunConfig, table: pd.DataFrame, cursor: int) -> None:
        """Show a run, whose rows are in ``table``, in the stored round nearest to the ``cursor``."""
        round_ = pictures.nearest(self.store.rounds_kept(config), cursor)
        self.images.value = self._stored(lambda: self._images(config, round_, cursor), round_)
        self.mask.value = self._stored(lambda: mask_picture(pictures.first_mask(self.store, config, round_)), round_)
        self.epochs.value = self._epochs(config, table, cursor)

    def clear(self, text: str) -> None:
        """Show a text in place of the panels."""
        self.images.value, self.mask.value, self.epochs.value = note(text), "", ""

    def _stored(self, draw: Callable[[], str], round_: int | None) -> str:
        """What ``draw`` makes of stored weights, or why that is not possible."""
        if round_ is None:
            return note(f"No weights of this run are stored. {KEEP}")
        try:
            return draw()
        except Exception as error:  # the data may be absent, and a user's own data and model may raise anything
            return note(str(error), "wrong")

    def _images(self, config: RunConfig, round_: int, cursor: int) -> str:
        if (found := pictures.wrong_labels(self.store, config, round_)) is None:
            return note("No training label of this run is wrong.")
        where = f"Seed {config.seed}, weights of round {round_}"
        where += "." if round_ == cursor else f", the stored round nearest to the cursor's round {cursor}."
        return note(where) + thumbnails(found)

    def _epochs(self, config: RunConfig, table: pd.DataFrame, cursor: int) -> str:
        row = table[(table["key"] == config.key) & (table["round"] == cursor)].iloc[0]
        said = f"Seed {config.seed}, round {cursor}. Test accuracy after the last epoch is {row['test_accuracy']:.1%}"
        if pd.notna(row.get("best_epoch")):
            best = f"{row['best_epoch_test_accuracy']:.1%} after epoch {row['best_epoch'] + 1:.0f}"
            said += f", and {best}, the best by validation"
        history = pd.DataFrame(self.store.history(config))
        if history.empty:
            return note(f"{said}. The other epochs were not stored. {KEEP}")
        self.figure.draw(history[history["round"] == cursor])
        colours = {part: style.colour for part, style in EpochFigure.PARTS.items()}
        return (
            legend(colours, "★ best by validation, ● last")
            + picture(svg(self.figure.figure), f"Accuracy after each epoch. {said}.")
            + note(f"{said}.")
        )

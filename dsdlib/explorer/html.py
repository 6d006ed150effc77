"""The explorer's HTML: its style sheet, pictures and short texts."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape
from importlib.resources import files

import numpy as np
from matplotlib import image as images

from dsdlib.data import Dataset
from dsdlib.explorer.pictures import FATES, SHOWN, WrongLabels

MOVES = "↪"  # marks an option for which other controls have to move; the style sheet greys it
COLOURS = dict(zip(FATES, ("#d55e00", "#029e73", "#949494"), strict=True))
CSS, NAMES = (files(__package__).joinpath(name).read_text(encoding="utf-8") for name in ("style.css", "names.js"))
STYLE = f'<style onload="{escape(NAMES, quote=True)}">{CSS}</style>'


def picture(source: str, alt: str, style: str = "") -> str:
    """An image with an alternative text. It is decoded before it is shown, so that a new one does not flicker."""
    return f'<img class="{style}" alt="{escape(alt, quote=True)}" src="{source}" decoding="sync">'


def note(text: str, style: str = "quiet") -> str:
    """A short paragraph."""
    return f'<p class="{style}">{escape(text)}</p>'


def png(pixels: np.ndarray, **options: object) -> str:
    """Pixels as a data URI; ``options`` are those of matplotlib's ``imsave``."""
    file = io.BytesIO()
    images.imsave(file, pixels, format="png", **options)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


@lru_cache(maxsize=512)
def _thumbnail(dataset: Dataset, row: int) -> str:
    """One training image, from the darkest to the brightest value of the data."""
    low, high = _range(dataset)
    pixels = ((dataset.train_x[row] - low) / (high - low)).clamp(0, 1).movedim(0, -1).numpy()
    return png(pixels) if pixels.shape[-1] == 3 else png(pixels[..., 0], cmap="gray", vmin=0, vmax=1)


@lru_cache(maxsize=2)
def _range(dataset: Dataset) -> tuple[float, float]:
    return float(dataset.train_x.min()), float(dataset.train_x.max())


def thumbnails(found: WrongLabels) -> str:
    """Images with wrong labels, captioned given / true / predicted and bordered by what became of the label."""
    if len(found.dataset.input_shape) != 3 or found.dataset.input_shape[0] not in (1, 3):
        return shares(found) + note(f"Inputs of shape {found.dataset.input_shape} are not shown as images.")
    names, cells = found.dataset.class_names, []
    for n in range(min(SHOWN, len(found.rows))):
        fate, labels = found.fates[n], [names[part[n]] for part in (found.given, found.true, found.predicted)]
        alt = "given {}, true {}, predicted {}: {}".format(*labels, fate)
        source = _thumbnail(found.dataset, int(found.rows[n]))
        image = picture(source, alt).replace("<img ", f'<img style="border-color:{COLOURS[fate]}" ')
        cells.append(f"<figure>{image}<figcaption>{escape(' / '.join(labels))}</figcaption></figure>")
    return f'{shares(found)}<div class="dsd-thumbs">{"".join(cells)}</div>'


def shares(found: WrongLabels) -> str:
    """How many wrong labels are memorised, recovered and neither, which is the key to the borders as well."""
    share = {f"{fate} {(found.fates == fate).mean():.0%}": COLOURS[fate] for fate in FATES}
    return note(f"Given / true / predicted, of {len(found.rows)} wrong labels:") + legend(share)


def legend(colours: Mapping[str, str], more: str = "") -> str:
    """Names with the colours that they have in a picture."""
    parts = [f'<span class="dsd-key" style="background:{colour}"></span>{name}' for name, colour in colours.items()]
    return f'<p class="quiet">{"".join(parts)} {escape(more)}</p>'


def mask_picture(left: np.ndarray) -> str:
    """The number of weights left at each pixel as an image."""
    low, high = int(left.min()), int(left.max())
    alt = f"Weights of the first layer left at each pixel: from {low} (dark) to {high} (bright)"
    return picture(png(left, cmap="viridis", vmin=0, vmax=max(high, 1)), alt, "dsd-mask") + note(f"{alt}.")


def bullets(lines: Sequence[str]) -> str:
    """A list of short texts."""
    return f"<ul style='margin:0;padding-left:18px'>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"

"""Before and after under one slider: HTML that works from a file, offline, in notebooks, by mouse, finger and keyboard.

The slider is the browser's own range input, laid over the pictures: arrow keys, touch and screen readers come with it.
"""

import base64
import html
import io
from pathlib import Path

import numpy as np
from PIL import Image

OWN_KEYS = "data-lm-suppress-shortcuts='true'"  # while in focus; else JupyterLab takes the arrow keys
SHOWN = 720  # px, the longer side of what is embedded: a page to look at, not the result to keep
STYLE = f"<style>\n{Path(__file__).with_suffix('.css').read_text(encoding='utf-8')}</style>"


def slider(
    before,
    after,
    words: tuple[str, str] = ("before", "after"),
    style: bool = True,
    width: int | None = None,
    strength: bool = False,
    side: int = SHOWN,
) -> str:
    """HTML of two pictures (Pillow images or arrays) of one size; dragging shows more of the one or the other.

    words: what they are, shown in the corners and read out. style: False where a page has `STYLE` already. width: in
    px, of small pictures that are shown larger. strength: with a knob below that blends the second into the first,
    which is what `hl.harmonize(strength=...)` does from 0 to 1. side: in px, the longer one of what is embedded.
    """
    first, second = (html.escape(word, quote=True) for word in words)
    wide = f" style='width:{width}px'" if width else ""
    pair = (
        f"<span class='pair'{wide}><img alt='{first}' src='{embedded(before, side)}'>"
        f"<img class='after' alt='{second}' src='{embedded(after, side)}'>"
        f"<input type='range' min='0' max='100' value='50' step='any' {OWN_KEYS} aria-label='{first} or {second}' "
        "oninput=\"this.parentNode.style.setProperty('--at', this.value + '%')\">"
        f"<span class='line'></span><span class='word' style='left: .5rem; top: .5rem'>{first}</span>"
        f"<span class='word' style='right: .5rem; bottom: .5rem'>{second}</span></span>"
    )
    knob = (
        f"<label>strength <input type='range' min='0' max='100' value='100' {OWN_KEYS} "
        'oninput="this.parentNode.previousSibling'
        ".style.setProperty('--strength', this.value / 100); this.nextElementSibling.value = this.value + ' %'\">"
        "<output>100 %</output></label>"
    )
    return f"{STYLE if style else ''}{f'<span class=knob>{pair}{knob}</span>' if strength else pair}"


def gallery(before, after: dict, captions: dict[str, str], side: int = SHOWN // 2) -> str:
    """HTML of one picture against several, {label: picture}, under a slider each; captions stand beside the labels."""
    figures = (
        f"<figure>{slider(before, picture, style=False, side=side)}"
        f"<figcaption><b>{html.escape(label)}</b> {html.escape(captions.get(label, ''))}</figcaption></figure>"
        for label, picture in after.items()
    )
    return f"{STYLE}<div class='gallery'>{''.join(figures)}</div>"


def embedded(picture, side: int = SHOWN) -> str:
    """A picture (Pillow image, or array of 8 or 16 bits) as the address of a JPEG of at most `side` px."""
    if not isinstance(picture, Image.Image):
        pixels = np.asarray(picture)
        picture = Image.fromarray((pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels)
    image = picture.convert("RGB")
    image.thumbnail((side, side))
    target = io.BytesIO()
    image.save(target, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(target.getvalue()).decode()}"

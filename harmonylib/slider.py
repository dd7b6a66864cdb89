"""Before and after under one slider: HTML that works from a file, offline, in notebooks, by mouse, finger and keyboard.

The slider is the browser's own range input, laid over the pictures: arrow keys, touch and screen readers come with it.
"""

import base64
import html
import io

import numpy as np
from PIL import Image

SHOWN = 720  # px, the longer side of what is embedded: a page to look at, not the result to keep
STYLE = """<style>
.pair { position: relative; display: inline-block; max-width: 100%; overflow: hidden; line-height: 0; border-radius: 6px; --at: 50%; touch-action: pan-y; }
.pair img { display: block; width: 100%; max-width: 100%; height: auto; }
.pair .after { position: absolute; inset: 0; width: 100%; height: 100%; clip-path: inset(0 0 0 var(--at)); }
.pair .line { position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; margin-left: -1px; background: white;
  box-shadow: 0 0 3px rgb(0 0 0 / .6); pointer-events: none; }
.pair .line::after { content: "\\2039\\2009\\203a"; position: absolute; top: 50%; left: 50%; transform: translate(-50%, -50%);
  width: 2.1rem; height: 2.1rem; border-radius: 50%; background: white; color: #1d2330; font: 600 1.15rem/2rem system-ui, sans-serif;
  text-align: center; box-shadow: 0 0 4px rgb(0 0 0 / .5); }
.pair input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize; }
.pair input:focus-visible ~ .line { outline: 3px solid #3b6fb6; }
.pair .word { position: absolute; padding: .1rem .5rem; border-radius: 999px; background: rgb(0 0 0 / .55); color: white;
  font: 12px/1.5 system-ui, sans-serif; pointer-events: none; }
</style>"""


def slider(
    before, after, words: tuple[str, str] = ("before", "after"), style: bool = True, width: int | None = None
) -> str:
    """HTML of two pictures (Pillow images or arrays) of one size; dragging shows more of the one or the other.

    words: what they are, shown in the corners and read out. style: False where a page has `STYLE` already. width: in px,
    of small pictures that are shown larger.
    """
    first, second = (html.escape(word, quote=True) for word in words)
    wide = f" style='width:{width}px'" if width else ""
    return (
        f"{STYLE if style else ''}<span class='pair'{wide}><img alt='{first}' src='{_embedded(before)}'>"
        f"<img class='after' alt='{second}' src='{_embedded(after)}'>"
        f"<input type='range' min='0' max='100' value='50' step='any' aria-label='{first} or {second}' "
        "oninput=\"this.parentNode.style.setProperty('--at', this.value + '%')\">"
        f"<span class='line'></span><span class='word' style='left: .5rem; top: .5rem'>{first}</span>"
        f"<span class='word' style='right: .5rem; bottom: .5rem'>{second}</span></span>"
    )


def _embedded(picture) -> str:
    image = (picture if isinstance(picture, Image.Image) else Image.fromarray(np.asarray(picture))).convert("RGB")
    image.thumbnail((SHOWN, SHOWN))
    target = io.BytesIO()
    image.save(target, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(target.getvalue()).decode()}"

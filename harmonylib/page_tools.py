"""Tools that live in a notebook's page: outlines drawn on a picture, and votes between two pictures.

A tool is a script that needs nothing but the browser. What it makes reaches Python through Colab's callbacks, or
through a hidden text field of ipywidgets (JupyterLab, Notebook 7); where neither is there, the reader copies a text.
"""

import json
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harmonylib import slider

VOTED_ON = 360  # px, the longer side of the pictures that are voted on
SEND = """text => {
  const colab = window.google?.colab?.kernel, box = document.querySelector(".KEY textarea");
  if (colab) colab.invokeFunction("KEY", [text], {});
  if (box) box.value = text;
  for (const name of ["input", "change"]) box?.dispatchEvent(new Event(name, {bubbles: true}));
  return Boolean(colab || box);
}"""


@dataclass
class Answer:
    """What a tool has sent so far; "" before that, and always where nobody is at the browser."""

    text: str = ""

    def receive(self, text: str) -> None:
        self.text = text


def draw(picture: np.ndarray) -> Answer:
    """Show the polygon tool on a picture (H,W,3); the answer is polygons in JSON, as `picture_masks.drawn` reads it."""
    height, width = picture.shape[:2]
    return show("polygon_tool", {"picture": slider.embedded(picture), "width": width, "height": height})


def vote(outputs: dict[str, dict[str, np.ndarray]], seed: int = 0) -> Answer:
    """Show pairs of outputs {picture: {method: (H,W,3)}}, unnamed; the answer is a CSV, as `votes.keep` reads it."""
    shown = {p: {m: slider.embedded(o, VOTED_ON) for m, o in made.items()} for p, made in outputs.items()}
    listed = ballots({picture: list(made) for picture, made in outputs.items()}, seed)
    return show("vote_tool", {"ballots": listed, "shown": shown, "sitting": secrets.token_hex(4)})


def ballots(methods: dict[str, list[str]], seed: int = 0) -> list[dict]:
    """Pairs {picture, methods: [a, b]} to vote on: for each picture a ring through its methods in random order.

    So every method is seen equally often on either picture, and none is left without comparison to the others.
    """
    rng = np.random.default_rng(seed)
    pairs = []
    for picture, names in methods.items():
        ring = rng.permutation(names).tolist()
        pairs += [{"picture": picture, "methods": [a, b]} for a, b in zip(ring, ring[1:] + ring[:1], strict=True)]
    return [pairs[i] for i in rng.permutation(len(pairs))]


def show(tool: str, data: dict) -> Answer:
    """Display a tool, a script beside this file, and return what it will fill."""
    from IPython.display import HTML, display

    answer, key = Answer(), f"harmony-{secrets.token_hex(4)}"
    if "google.colab" in sys.modules:
        from google.colab import output

        output.register_callback(key, answer.receive)
    else:
        _listen(key, answer)
    display(HTML(page(tool, data, key)))
    return answer


def page(tool: str, data: dict, key: str) -> str:
    """HTML of a tool; `key` names its element, and what listens to it."""
    here = Path(__file__).parent
    script, style = ((here / name).read_text(encoding="utf-8") for name in (f"{tool}.js", "page_tools.css"))
    given = json.dumps(data).replace("<", "\\u003c")  # neither an end nor a comment of the script
    start = f'({script.strip()})(document.getElementById("{key}"), {given}, {SEND.replace("KEY", key)})'
    return f'<style>{style}</style><div id="{key}" class="harmony"></div><script>{start}</script>'


def _listen(key: str, answer: Answer) -> None:
    """A text field that nobody sees, which the script finds by its class; nothing where ipywidgets is missing."""
    try:
        import ipywidgets
    except ImportError:
        return
    from IPython.display import display

    field = ipywidgets.Textarea(layout=ipywidgets.Layout(display="none"))
    field.add_class(key)
    field.observe(lambda change: answer.receive(change["new"]), "value")
    view = {"version_major": 2, "version_minor": 0, "model_id": field.model_id}
    display(
        {"application/vnd.jupyter.widget-view+json": view, "text/plain": ""}, raw=True
    )  # a saved page shows nothing

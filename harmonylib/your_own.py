"""The pieces of notebook 07: a composite and its mask, the methods at hand, and the result as a file."""

import base64
import html
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harmonylib import checkpoints, picture_masks, pictures
from harmonylib.data import scenes
from harmonylib.errors import HarmonyError
from harmonylib.page_tools import Answer
from harmonylib.paths import shown
from harmonylib.pictures import Picture

SHIPPED = "harmony-companion"  # the label of the network that comes with the package
WITHOUT_TRAINING = {"identity": "identity", "Reinhard": "reinhard", "histogram": "histogram"}
TRAINED = {"U-Net": "unet", "S2AM": "s2am"}  # label -> experiment of notebook 03
EXAMPLES = (
    (21, "HFlickr"),
    (3, "HAdobe5k"),
    (7, "HFlickr"),
    (12, "HAdobe5k"),
)  # scenes that are in no list of the data
EXAMPLE_SIZE = (600, 800)  # height, width
UPLOAD = "upload"  # in place of a file's name, in Colab
IN_THE_PAGE = 8e6  # bytes: a larger file is not put into the notebook


class Composite(NamedTuple):
    """What is worked on: its file, the picture and, of the example, mask (H, W) in [0, 1] and target (H, W, 3)."""

    file: Path
    picture: Picture
    mask: np.ndarray | None = None
    target: np.ndarray | None = None


def opened(name: str = "") -> Composite:
    """The composite of a file; `upload` asks for one in Colab, "" is the example. Raises HarmonyError: unreadable."""
    if not name:
        return example()
    file = Path(upload() if name == UPLOAD else name)
    return Composite(file, pictures.read(file))


def example(number: int = 0) -> Composite:
    """A composite whose target is known: a scene, rendered larger than those of the data."""
    index, style = EXAMPLES[number]
    scene = scenes.render_scene(index, style, 1, EXAMPLE_SIZE)
    return Composite(
        Path(f"scene{number}.jpg"), Picture(scene.composites[0]), scene.mask.astype(np.float32) / 255, scene.real
    )


def upload() -> str:
    """Ask for a file in Colab, and name it. Raises HarmonyError elsewhere, and where none was chosen."""
    if "google.colab" not in sys.modules:
        raise HarmonyError("upload: only in Colab; here drag the file into the file browser and write its name")
    from google.colab import files

    names = list(files.upload())
    if not names:
        raise HarmonyError("upload: no file was chosen; run the cell again")
    return names[0]


def mask_of(composite: Composite, answer: Answer, mask: str = "") -> np.ndarray:
    """How much of each pixel is object, (H, W) float32 in [0, 1]: the outline drawn, else `mask`, else the example's.

    mask: a file, the word alpha, or polygons in JSON. Raises HarmonyError where there is none of them.
    """
    picture = composite.picture
    text = answer.text or (mask if mask.lstrip().startswith(("[", "{")) else "")
    if text:
        found = picture_masks.drawn(text, picture.size, "the outline")
        picture_masks.check(found, picture.size, "the outline")
        return found
    if mask:
        return picture_masks.read(upload() if mask == UPLOAD else mask, picture)
    if composite.mask is None:
        raise HarmonyError("mask: none yet; draw the object above and close its outline, or name a file in MASK")
    return composite.mask


def methods(results: Path) -> dict[str, str | None]:
    """Label -> `model` of `hl.harmonize`: those without training, notebook 03's networks if made, the shipped last."""
    trained = {label: results / "runs" / name / "seed0" for label, name in TRAINED.items()}
    found = {label: str(folder) for label, folder in trained.items() if checkpoints.find(folder)}
    if len(found) < len(trained):
        print(f"{', '.join(trained.keys() - found.keys())}: none in {shown(results)}; notebook 03 trains them")
    return WITHOUT_TRAINING | found | {SHIPPED: None}


def result_file(composite: Composite, folder: Path) -> Path:
    """Where the result goes, in the composite's own format (PNG, where that cannot be written)."""
    folder.mkdir(parents=True, exist_ok=True)
    suffix = composite.file.suffix if composite.file.suffix.lower() in pictures.FORMATS else ".png"
    return folder / f"{composite.file.stem}_harmonized{suffix}"


def download(path: Path):
    """Hand a file to the reader: Colab downloads it, elsewhere a link appears (or the path, of a large file)."""
    from IPython.display import HTML

    if "google.colab" in sys.modules:
        from google.colab import files

        return files.download(str(path))
    if path.stat().st_size > IN_THE_PAGE:
        return HTML(f"the result: <code>{html.escape(shown(path))}</code>")
    data = base64.b64encode(path.read_bytes()).decode()
    kind = pictures.format_of(path).lower()
    style = (
        "display:inline-block;padding:.35rem 1rem;border-radius:6px;background:#1f4f8f;color:#fff;text-decoration:none"
    )
    name = html.escape(path.name, quote=True)
    return HTML(f"<a style='{style}' download='{name}' href='data:image/{kind};base64,{data}'>Download {name}</a>")

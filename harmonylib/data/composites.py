"""Real composites without a target, and folders of plain photographs: what has no lists.

<anywhere>/composite/NAME.jpg      and its mask of the same name, whatever the ending
<anywhere>/mask/NAME.png
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from harmonylib.data.layout import PICTURES, open_mask, open_rgb
from harmonylib.errors import HarmonyError
from harmonylib.reading import inside


@dataclass(frozen=True)
class Composite:
    """A composite and its mask, without a target."""

    path: Path
    mask_path: Path

    @property
    def source(self) -> str:
        """The folder that `composite/` and `mask/` lie in."""
        return self.path.parent.parent.name

    def open(self) -> tuple[Image.Image, Image.Image]:
        """The picture as RGB, the mask as 8-bit grey. Raises HarmonyError: unreadable, sizes differ, empty mask."""
        picture, mask = open_rgb(self.path), open_mask(self.mask_path)
        if picture.size != mask.size:
            raise HarmonyError(
                f"{self.mask_path}: {mask.width}x{mask.height} px, but {self.path.name} is "
                f"{picture.width}x{picture.height}; save the mask at the composite's size"
            )
        return picture, mask

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """(H, W, 3) uint8 and (H, W) float32 in [0,1]. Raises HarmonyError like `open`."""
        picture, mask = self.open()
        return np.asarray(picture), np.asarray(mask, np.float32) / 255


def find_composites(root: str | Path) -> list[Composite]:
    """Every composite below a folder. Raises HarmonyError: no such folder, no composite, no mask, a link out of it."""
    root = Path(root).expanduser()
    if not root.is_dir():
        raise HarmonyError(f"{root}: no such folder; give one with composite/ and mask/ in it")
    found = []
    for folder in sorted(p for p in (root, *root.rglob("*")) if p.name == "composite" and p.is_dir()):
        masks = {p.stem: p for p in (folder.parent / "mask").glob("*") if p.suffix.lower() in PICTURES}
        for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES):
            if path.stem not in masks:
                raise HarmonyError(f"{path}: no mask of that name in {folder.parent.name}/mask; add it")
            found.append(Composite(inside(root, path), inside(root, masks[path.stem])))
    if not found:
        raise HarmonyError(
            f"{root}: no pictures in a folder composite/; put them there, their masks in mask/ beside it"
        )
    return found

"""Natural pictures for the benchmarks: parts of the photographs that scikit-image ships, of iHarmony4's usual size."""

from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

WIDTH, HEIGHT = 640, 480  # px, as most pictures of HCOCO
SEEN = (0.6, 1.0)  # share of a photograph's side in a part
GAIN = (0.7, 1.3)  # of the object's channels


def triplets(count: int, height: int = HEIGHT, width: int = WIDTH) -> list[tuple[np.ndarray, ...]]:
    """`count` composites and targets (height, width, 3), uint8, and masks (height, width), bool: an ellipse relit."""
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(picture) for picture in (data.astronaut(), data.coffee(), data.chelsea())]
    y, x = np.ogrid[:height, :width]
    made = []
    for number in range(count):
        real = np.asarray(_part(rng, photographs[number % len(photographs)], height, width))
        centre, radius = rng.uniform(0.3, 0.7, 2), rng.uniform(0.15, 0.3, 2)
        mask = ((y / height - centre[0]) / radius[0]) ** 2 + ((x / width - centre[1]) / radius[1]) ** 2 < 1
        relit = np.clip(real * rng.uniform(*GAIN, 3), 0, 255).astype(np.uint8)
        made.append((np.where(mask[..., None], relit, real), real, mask))
    return made


def _part(rng: np.random.Generator, photograph: Image.Image, height: int, width: int) -> Image.Image:
    size = np.array(photograph.size) * rng.uniform(*SEEN)
    left, top = rng.uniform(0, photograph.size - size)
    return photograph.resize((width, height), Image.Resampling.BICUBIC, (left, top, left + size[0], top + size[1]))


def write_set(root: Path, count: int) -> None:
    """The same as a set in iHarmony4's layout: JPEGs of quality 90, masks as PNG, all of them for training."""
    subset = root / "HCOCO"
    for folder in ("composite_images", "masks", "real_images"):
        (subset / folder).mkdir(parents=True)
    names = []
    for number, (composite, real, mask) in enumerate(triplets(count)):
        Image.fromarray(composite).save(subset / "composite_images" / f"p{number}_1_1.jpg", quality=90)
        Image.fromarray(real).save(subset / "real_images" / f"p{number}.jpg", quality=90)
        Image.fromarray(mask).save(subset / "masks" / f"p{number}_1.png")
        names.append(f"HCOCO/composite_images/p{number}_1_1.jpg\n")
    (root / "IHD_train.txt").write_text("".join(names))
    (root / "IHD_test.txt").write_text("")

"""Outlined objects from any folder in COCO's instance format: images and an instances JSON.

Format: cocodataset.org/#format-data. Objects that stand for a crowd, and those given as run lengths instead of
polygons, are left out.
"""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from harmonylib.data.layout import LONGEST
from harmonylib.errors import HarmonyError, one_line
from harmonylib.paths import shown
from harmonylib.reading import DAMAGE, MOST, inside, read_json

SUPERSAMPLING = 4  # a side: what makes the edges of masks soft, as HCOCO's are
LARGEST, SIDE = 10**12, 1 << 16  # an id, and px of a photograph's side
MARGIN = 2  # px around an object's box
CORNERS, LENGTH = 10_000, 500_000  # of an object's outlines: pycocotools takes memory by their px, unchecked


@dataclass(frozen=True)
class Object:
    """One outlined object: `polygons` in px, x and y in turn, of a photograph of `size` (width, height)."""

    id: int
    photograph: int
    category: str
    file: Path
    size: tuple[int, int]
    polygons: tuple[tuple[float, ...], ...]

    @cached_property
    def box(self) -> tuple[int, int, int, int]:
        """left, top, right, bottom: of the polygons with a margin, inside the photograph."""
        points = np.concatenate([np.reshape(p, (-1, 2)) for p in self.polygons])
        left, top = np.clip(np.floor(points.min(0)) - MARGIN, 0, self.size).astype(int)
        right, bottom = np.clip(np.ceil(points.max(0)) + MARGIN, 0, self.size).astype(int)
        return int(left), int(top), int(right), int(bottom)

    @cached_property
    def area(self) -> float:
        """Share of its photograph that it covers, counted from the polygons."""
        return sum(_area(np.reshape(p, (-1, 2))) for p in self.polygons) / (self.size[0] * self.size[1])

    @property
    def endless(self) -> bool:
        """Whether drawing it would take far more than a picture: too many corners, or too long a way along them."""
        corners = sum(map(len, self.polygons)) // 2
        if corners > CORNERS or corners * max(self.size) <= LENGTH:  # nearly all, without looking at them
            return corners > CORNERS
        points = [np.clip(np.reshape(p, (-1, 2)), 0, self.size) for p in self.polygons]
        return sum(np.abs(p - np.roll(p, 1, axis=0)).max(1).sum() for p in points) > LENGTH

    def mask(self) -> np.ndarray:
        """How much of each pixel of the box is object: (h, w) float32 in [0,1].

        Raises HarmonyError where pycocotools is not installed.
        """
        return np.asarray(Image.fromarray(255 * self._drawn(SUPERSAMPLING)).reduce(SUPERSAMPLING), np.float32) / 255

    def inside(self) -> np.ndarray:
        """Whether each pixel of the box is object: (h, w) bool, drawn at the photograph's own resolution."""
        return self._drawn(1) > 0

    def _drawn(self, scale: int) -> np.ndarray:
        """The polygons in the box, `scale` times as large: 0 or 1, uint8."""
        try:
            from pycocotools import mask as run_lengths
        except ImportError:
            raise HarmonyError("pycocotools: not installed; COCO's outlines need it: pip install pycocotools") from None
        left, top, right, bottom = self.box
        height, width = (bottom - top) * scale, (right - left) * scale
        corners = (left, top), (right, bottom)
        fine = [
            ((np.clip(np.reshape(p, (-1, 2)), *corners) - corners[0]) * scale).ravel().tolist() for p in self.polygons
        ]
        return run_lengths.decode(run_lengths.merge(run_lengths.frPyObjects(fine, height, width)))


def read_objects(root: str | Path) -> list[Object]:
    """Every outlined object of a folder in COCO's format, in the order of photographs and of ids.

    The annotations are `annotations/instances_*.json`, or such a file in the folder itself; the photographs
    lie in `images/`, in a folder of the split's name (`val2017`), or beside. Objects whose photograph is not there are
    left out, so that a part of a set can be used.

    Raises HarmonyError: no such folder, no or several annotation files, no JSON in COCO's format, an outline without
    end, a file name or a link that leads out of the folder, no photograph at all.
    """
    root = Path(root).expanduser()
    path = annotation_file(root)
    content = read_json(path, "not COCO's instance format; fetch the file again", most=MOST)
    try:
        names = {c["id"]: one_line(c["name"]) for c in content["categories"]}
        file_names = [str(image["file_name"]) for image in content["images"]]
        if max((len(name.encode()) for name in file_names), default=0) > LONGEST:
            raise ValueError(f"a file_name of more than {LONGEST} bytes")
        folder = inside(root, _image_folder(root, path, file_names))
        images = {
            int(image["id"]): (
                _inside(folder, str(image["file_name"]), path),
                (int(image["width"]), int(image["height"])),
            )
            for image in content["images"]
        }
        objects = [
            Object(int(a["id"]), int(a["image_id"]), names[a["category_id"]], *images[int(a["image_id"])], _polygons(a))
            for a in content["annotations"]
            if _is_object(a)
        ]
        ids = [o.id for o in objects]
        if min([*images, *ids], default=0) < 0 or max([*images, *ids], default=0) > LARGEST or len(set(ids)) < len(ids):
            raise ValueError("an id is negative, too large, or stands for two objects")
        if any(min(size) < 0 or max(size) > SIDE for _, size in images.values()):
            raise ValueError(f"a photograph of more than {SIDE} px a side, or less than none")
        if any(o.endless for o in objects):
            raise ValueError(f"an outline of more than {CORNERS:,} corners or {LENGTH:,} px")
    except DAMAGE as error:
        reason = one_line(f"{type(error).__name__}: {error}")
        raise HarmonyError(f"{shown(path)}: not COCO's instance format ({reason}); fetch the file again") from None
    there = {image: file.is_file() for image, (file, _) in images.items()}
    found = [o for o in objects if there[o.photograph] and _has_extent(o)]
    if not found:
        raise HarmonyError(
            f"{shown(folder)}: none of the photographs with outlines in {path.name} is there; fetch them"
        )
    return sorted(found, key=lambda o: (o.photograph, o.id))


def _area(points: np.ndarray) -> float:
    """Of a polygon (N, 2): the shoelace formula."""
    (x, y), (next_x, next_y) = points.T, np.roll(points, -1, axis=0).T
    return abs(float((x * next_y - next_x * y).sum())) / 2


def _is_object(annotation: dict) -> bool:
    return not annotation.get("iscrowd", 0) and isinstance(annotation["segmentation"], list)


def _polygons(annotation: dict) -> tuple[tuple[float, ...], ...]:
    polygons = [tuple(map(float, p)) for p in annotation["segmentation"]]
    return tuple(p for p in polygons if len(p) >= 6 and len(p) % 2 == 0 and np.isfinite(p).all())


def _has_extent(thing: Object) -> bool:
    if not thing.polygons:
        return False
    left, top, right, bottom = thing.box
    return right > left and bottom > top


def annotation_file(root: str | Path) -> Path:
    """The instances JSON of a folder in COCO's format. Raises HarmonyError: there is none, several, a link out."""
    root = Path(root).expanduser()
    if not root.is_dir():
        raise HarmonyError(f"{root}: no such folder; give one with images and annotations/instances_*.json")
    for folder, pattern in ((root / "annotations", "instances_*.json"), (root, "instances_*.json")):
        found = sorted(folder.glob(pattern))
        here = [path for path in found if _image_folder_of_split(root, path)]  # val2017/ is there, train2017/ is not
        if len(found) == 1 or len(here) == 1:
            return inside(root, (here or found)[0])
        if found:
            raise HarmonyError(
                f"{folder}: {len(found)} files {pattern}, and it is not clear which is meant; keep one of them there"
            )
    raise HarmonyError(f"{root}: no annotations/instances_*.json in it; fetch COCO's annotations")


def _image_folder_of_split(root: Path, annotations: Path) -> Path | None:
    folder = root / annotations.stem.removeprefix("instances_")
    return folder if folder.is_dir() else None


def _image_folder(root: Path, annotations: Path, names: list[str]) -> Path:
    """Where the photographs lie: the first place that has any of the first ones."""
    places = [place for place in (_image_folder_of_split(root, annotations), root / "images", root) if place]
    return next((place for place in places if any((place / name).is_file() for name in names[:1000])), places[0])


def _inside(folder: Path, name: str, annotations: Path) -> Path:
    if not Path(os.path.realpath(folder / name)).is_relative_to(os.path.realpath(folder)):
        raise HarmonyError(f"{shown(annotations)}: file_name {name!r} leads out of {folder.name}; fetch the file again")
    return folder / name

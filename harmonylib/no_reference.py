"""Real composites have no target to compare with: how far an object's colours stand off from its surroundings.

S2AM-T4's third question (does it carry over to real composites?) is answered there by looking. Here foreground and
background are compared in CIELAB before and after, as Lalonde and Efros did to tell real from pasted ("Using Color
Compatibility for Assessing Image Realism", ICCV 2007). Nearer is no proof of better: a red car may stand on green
grass. What these numbers can show is whether a network moves the object towards its surroundings at all, and how far.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw
from scipy.stats import wasserstein_distance
from skimage.color import rgb2lab

from harmonylib import statistics
from harmonylib.data.composites import Composite
from harmonylib.evaluation import Method
from harmonylib.metrics import resize_image, resize_mask
from harmonylib.paths import whole_file

STATISTICS = {  # all of foreground against background, 0 where they agree
    "lightness": "difference of mean L*",
    "contrast": "difference of the standard deviation of L*",
    "colour": "distance of mean a*, b*",
    "saturation": "difference of mean chroma",
    "lightness_distribution": "Wasserstein distance of L*",
}
UNKNOWN = statistics.Interval(float("nan"), float("nan"), float("nan"), 0)  # of fewer than two composites
SHOWN = 224  # px a side of the pictures for the eye


def compare_sides(picture: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """The `STATISTICS` of a picture (H,W,3) in [0,255] with a mask (H,W) in [0,1], above 0.5 foreground.

    NaN where one side is empty.
    """
    lab = rgb2lab(np.clip(picture.astype(np.float64), 0, 255) / 255)
    inside = mask > 0.5
    if inside.all() or not inside.any():
        return dict.fromkeys(STATISTICS, float("nan"))
    front, back = lab[inside], lab[~inside]
    chroma = [float(np.hypot(side[:, 1], side[:, 2]).mean()) for side in (front, back)]
    return {
        "lightness": abs(float(front[:, 0].mean() - back[:, 0].mean())),
        "contrast": abs(float(front[:, 0].std() - back[:, 0].std())),
        "colour": float(np.linalg.norm(front[:, 1:].mean(0) - back[:, 1:].mean(0))),
        "saturation": abs(chroma[0] - chroma[1]),
        "lightness_distribution": float(wasserstein_distance(front[:, 0], back[:, 0])),
    }


def compare(
    composites: Iterable[Composite], methods: dict[str, tuple[Method, int]], pictures: Path | None = None
) -> pd.DataFrame:
    """One row a composite and method: source, name, method, size, change (mean |change| inside the mask, 0-255), the
    `STATISTICS` before (`<name>_before`, of the composite at the method's size) and after.

    Args:
        methods: name -> (method, side in px it works at).
        pictures: a folder for one PNG a composite: composite, mask, and every method's result.
    """
    rows = []
    for number, composite in enumerate(composites, 1):
        picture, mask = composite.open()
        shown = {"composite": np.asarray(picture), "mask": np.asarray(mask.convert("RGB"))}
        given = {}  # by size: picture, mask, and their statistics
        for size in {size for _, size in methods.values()}:
            before, inside = resize_image(picture, "bcmi256", size), resize_mask(mask, "bcmi256", size)
            given[size] = before, inside, compare_sides(before, inside)
        for name, (method, size) in methods.items():
            before, inside, was = given[size]
            after = _apply(method, before, inside)
            change = np.abs(after - before)[inside > 0.5]
            row = {"source": composite.source, "name": composite.path.stem, "method": name, "size": size}
            row |= {"change": float(change.mean()) if change.size else float("nan")}
            row |= {f"{key}_before": value for key, value in was.items()} | compare_sides(after, inside)
            rows.append(row)
            shown[name] = np.rint(after).astype(np.uint8)
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            name = f"{number:03d}-{composite.source}-{composite.path.stem}"[:60]  # of 255 bytes, four a letter
            with whole_file(pictures / f"{name}.png") as file:
                _strip(shown).save(file, "PNG")
    return pd.DataFrame(rows)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a method and statistic: n, before, after, and the paired difference with its 95 % interval over
    composites (`nearer`: the whole interval is below zero, `farther`: above)."""
    table = []
    for method, part in rows.groupby("method", sort=False):
        for name in STATISTICS:
            complete = part.dropna(subset=[name, f"{name}_before"])
            after, before = complete[name], complete[f"{name}_before"]
            keys = complete["source"] + "/" + complete["name"]
            known = keys.nunique() > 1
            interval = statistics.paired_bootstrap(after, before, keys) if known else UNKNOWN
            word = {-1: "nearer", 1: "farther", 0: "cannot tell"}[interval.side]
            row = {
                "method": method,
                "statistic": name,
                "n": len(complete),
                "before": before.mean(),
                "after": after.mean(),
            }
            row |= {"difference": interval.estimate, "low": interval.low, "high": interval.high, "side": word}
            table.append(row)
    return pd.DataFrame(table)


def _apply(method: Callable, picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    image = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None]
    inside = torch.from_numpy(mask.astype(np.float32))[None, None]
    return method(image, inside)[0].clamp(0, 255).permute(1, 2, 0).cpu().numpy()


def _strip(shown: dict[str, np.ndarray]) -> Image.Image:
    """Pictures side by side, each under its name."""
    strip = Image.new("RGB", (SHOWN * len(shown), SHOWN + 16), "white")
    draw = ImageDraw.Draw(strip)
    for number, (name, pixels) in enumerate(shown.items()):
        strip.paste(Image.fromarray(pixels).resize((SHOWN, SHOWN), Image.Resampling.BICUBIC), (number * SHOWN, 16))
        words = [part for part in Path(name).parts if part != "checkpoint.pt"][-2:]  # of a run: its name and seed
        draw.text((number * SHOWN + 4, 2), "/".join(words), fill="black")
    return strip

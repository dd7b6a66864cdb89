"""Score a method on triplets: one row per picture, from the original files, under a named protocol.

A method is a function (composite (B,3,H,W), mask (B,1,H,W)) -> (B,3,H,W), pictures in [0,255]; networks, colour
statistics and doing nothing are all wrapped into that form.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonylib import baselines, fullres, metrics
from harmonylib.data.cache import Cache
from harmonylib.data.layout import PICTURES, Entry
from harmonylib.distributed import shared_out
from harmonylib.errors import HarmonyError
from harmonylib.reading import inside

Method = Callable[[Tensor, Tensor], Tensor]
Batch = tuple[Sequence[Entry], Tensor, Tensor, Tensor]  # entries, composite, mask, real
BATCH = 16
AT_ONCE = 2 * BATCH * 256**2  # px that a network is given together
READERS = 4
KEPT_PIXELS = 2**23  # a test list up to this size stays in memory: several runs of one process are scored on it


def baseline(name: str) -> Method:
    """A method without training (`baselines.BASELINES`), picture by picture on 8-bit pixels."""

    def predict(composite: Tensor, mask: Tensor) -> Tensor:
        pictures = composite.permute(0, 2, 3, 1).round().to(torch.uint8).cpu().numpy()
        results = baselines.apply(name, pictures, mask[:, 0].cpu().numpy() > 0.5)
        return torch.from_numpy(np.stack(results)).permute(0, 3, 1, 2).to(composite)

    return predict


class Network:
    """A network as a method: in evaluation mode, on the device its weights are on."""

    def __init__(self, model: nn.Module):
        self.model = model

    @torch.no_grad()
    def __call__(self, composite: Tensor, mask: Tensor) -> Tensor:
        self.model.eval()  # here, not once before: validation comes between training steps
        device = next(self.model.parameters()).device
        pictures = max(1, getattr(self.model, "at_once", AT_ONCE) // composite[0, 0].numel())
        parts = zip(composite.split(pictures), mask.split(pictures), strict=True)
        return 255 * torch.cat([self.model(part.to(device) / 255, inside.to(device)).float() for part, inside in parts])

    def at_full_resolution(self, composite: Tensor, mask: Tensor) -> Tensor:
        """One picture: seen at the side of training, changed at its own, as `hl.harmonize` does."""
        picture, levels = composite[0].permute(1, 2, 0).numpy() / 255, mask[0, 0].float().numpy()
        changed = fullres.paint(fullres.maps(self.model, picture, levels), picture, levels)
        return 255 * torch.from_numpy(changed).permute(2, 0, 1)[None]


def network(model: nn.Module) -> Method:
    """A network as a method; under ``fullres`` by its colour map."""
    return Network(model)


def constant_shift(shift: np.ndarray) -> Method:
    """Add one RGB vector (3,), in levels of 255, to every foreground: the bar for having looked at anything."""
    vector = torch.as_tensor(shift, dtype=torch.float32).view(1, 3, 1, 1)
    return lambda composite, mask: composite + mask * vector.to(composite)


def fit_constant_shift(cache: Cache, rows: np.ndarray) -> np.ndarray:
    """The shift (3,), in levels of 255, with the smallest mean fMSE on the given training rows (clipping aside).

    The mean over pictures of a per-picture mean of squares is least at the mean over pictures of the mean difference.
    """
    means = []
    for row in cache.index.iloc[rows].itertuples():
        inside = cache.mask[row.mask] > 0
        difference = cache.real[row.real][inside].astype(np.float32) - cache.composite[row.Index][inside]
        means.append(difference.mean(0) if inside.any() else np.full(3, np.nan))
    return np.nanmean(means, axis=0)


def evaluate(method: Method, entries: list[Entry], protocol: str = "bcmi256", size: int | None = None) -> pd.DataFrame:
    """Per-image rows: name, subset, photo, group, kind, protocol, foreground_ratio, mse, psnr, fmse, fpsnr and the
    `diagnostics`. Files are read under the protocol's own resampler; `size` replaces its 256 px.
    """
    if isinstance(method, Network) and metrics.get_protocol(protocol).size is None:
        method = method.at_full_resolution
    return _rows(lambda batch, composite, mask: method(composite, mask), entries, protocol, size)


def _rows(predict: Callable, entries: list[Entry], protocol: str, size: int | None) -> pd.DataFrame:
    def scored(groups: Sequence[Sequence[Entry]]) -> list[pd.DataFrame]:
        tables = []
        for batch, composite, mask, real in _batches(tuple(groups), protocol, size):
            tables.append(score_rows(predict(batch, composite, mask), composite, mask, real, protocol))
            for key in ("kind", "group", "photo", "subset", "name"):
                tables[-1].insert(0, key, [getattr(entry, key) for entry in batch])
        return tables

    # Whole batches are shared out, so that every picture is scored beside those that it always is.
    step = BATCH if metrics.get_protocol(protocol).size else 1
    groups = [tuple(entries[start : start + step]) for start in range(0, len(entries), step)]
    rows = pd.concat(shared_out(groups, scored), ignore_index=True)
    rows.insert(5, "protocol", metrics.caption(protocol, size))
    return rows


def evaluate_outputs(
    folder: Path, entries: list[Entry], protocol: str = "bcmi256", size: int | None = None
) -> pd.DataFrame:
    """The rows of `evaluate` for pictures that somebody else's method has made: `folder` holds one of each composite's
    name, in any format. Raises HarmonyError: some are missing, or have another size than a picture is scored at.
    """
    files = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURES}
    missing = [entry.name for entry in entries if entry.name not in files]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise HarmonyError(f"{folder}: no output {missing[0]}{more}; it takes one of each composite on the list")

    def output(batch: Sequence[Entry], composite: Tensor, mask: Tensor) -> Tensor:
        pictures = []
        for entry, like in zip(batch, composite, strict=True):
            picture = metrics.resize_image(metrics.open_image(inside(folder, files[entry.name])), protocol, size)
            if picture.shape[:2] != like.shape[1:]:
                sizes = [f"{width}x{height}" for height, width in (picture.shape[:2], like.shape[1:])]
                raise HarmonyError(
                    f"{files[entry.name]}: {sizes[0]} px, but its composite has {sizes[1]} under {protocol}; "
                    "write outputs at the composites' own size"
                )
            pictures.append(torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1))
        return torch.stack(pictures)

    return _rows(output, entries, protocol, size)


def evaluate_cached(method: Method, cache: Cache, rows: np.ndarray) -> pd.DataFrame:
    """The same rows for prepared training or validation triplets, under ``bcmi256`` at the cache's size."""

    def scored(start: int) -> pd.DataFrame:
        chosen = cache.index.iloc[rows[start : start + 2 * BATCH]]
        composite, real = (
            torch.from_numpy(array[index].astype(np.float32)).permute(0, 3, 1, 2)
            for array, index in ((cache.composite, chosen.index), (cache.real, chosen["real"]))
        )
        mask = torch.from_numpy(cache.mask[chosen["mask"]].astype(np.float32))[:, None]
        scores = score_rows(method(composite, mask), composite, mask, real, "bcmi256")
        keys = chosen[["name", "subset", "photo", "group", "kind"]].reset_index(drop=True)
        return pd.concat([keys, scores], axis=1)

    starts = range(0, len(rows), 2 * BATCH)
    table = pd.concat(shared_out(starts, lambda own: [scored(start) for start in own]), ignore_index=True)
    table.insert(5, "protocol", metrics.caption("bcmi256", cache.size))
    return table


def score_rows(prediction: Tensor, composite: Tensor, mask: Tensor, real: Tensor, protocol: str) -> pd.DataFrame:
    """Metrics and diagnostics of one batch; pictures (B,3,H,W) in [0,255], mask (B,1,H,W) in [0,1]."""
    prediction, composite, mask, real = (
        t.to(prediction.device, torch.float32) for t in (prediction, composite, mask, real)
    )
    scores = metrics.score_batch(prediction, real, mask, protocol)
    columns = {"foreground_ratio": mask.mean((1, 2, 3))} | scores | diagnostics(prediction, composite, mask, real)
    return pd.DataFrame({name: values.double().cpu().numpy() for name, values in columns.items()})


def diagnostics(prediction: Tensor, composite: Tensor, mask: Tensor, real: Tensor) -> dict[str, Tensor]:
    """What the claims about behaviour are tested with, each (B,):

    recovered: the share of the way from composite to target that was gone, inside the mask: the projection of the
        change made on the change needed; 1 is all of it, below 1 is conservative (S2AM-T4 section 4.4.2).
    background_mse: squared change of the background, per pixel and channel, against the composite (section 4.4.1).
    sharpness: high-frequency energy (Laplacian) of the foreground, eroded by a pixel, over that of the target as an
        amplitude; below 1 is softer (section 5.2).
    blockiness: see `blockiness` (LEMaRT section 4.4c).
    """
    prediction = prediction.clamp(0, 255)
    axes = (1, 2, 3)
    made, needed = prediction - composite, real - composite
    recovered = (mask * made * needed).sum(axes) / (mask * needed.square()).sum(axes)
    background = 1 - mask
    background_mse = (background * made.square()).sum(axes) / (3 * background.sum(axes))
    inside = 1 - F.max_pool2d(1 - mask, 3, 1, 1)
    energy = [(inside * _laplacian(picture).square()).sum(axes) for picture in (prediction, real)]
    sharpness = (energy[0] / energy[1]).sqrt()
    return {
        "recovered": recovered,
        "background_mse": background_mse,
        "sharpness": sharpness,
        "blockiness": blockiness(made),
    }


def blockiness(change: Tensor, patch: int = 4) -> Tensor:
    """How much more a change (B,3,H,W) jumps where attention windows meet than at the next borders of patches: (B,).

    The mean absolute step across the lines at every quarter of a side, where windows of half the picture meet, shifted
    ones included, over that across the lines one patch before and after them: 1 is no trace of windows. Neighbours are
    compared because objects, and with them changes, are more often in the middle of a picture than at its border.
    Whatever else works on a grid of quarters, such as a map at a sixteenth of a picture of 64 px, shows as well. NaN
    where nothing changes, or where quarters are no multiples of the patch. LEMaRT (section 4.4c, Figure 7) shows the
    edges and measures none.
    """
    at_windows, beside = [], []
    for axis in (2, 3):
        quarter, rest = divmod(change.shape[axis], 4)
        if rest or quarter % patch or quarter <= patch:
            return torch.full((len(change),), float("nan"), device=change.device)
        jumps = change.diff(dim=axis).abs().transpose(axis, 3).mean((1, 2))  # (B, side - 1): step i lies before i + 1
        lines = torch.arange(1, 4, device=change.device) * quarter - 1
        at_windows.append(2 * jumps[:, lines])
        beside.append(jumps[:, lines - patch] + jumps[:, lines + patch])
    return torch.cat(at_windows, 1).sum(1) / torch.cat(beside, 1).sum(1)


def _laplacian(picture: Tensor) -> Tensor:
    kernel = picture.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]]).expand(3, 1, 3, 3)
    return F.conv2d(F.pad(picture, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)


def _batches(groups: tuple[tuple[Entry, ...], ...], protocol: str, size: int | None) -> Iterable[Batch]:
    """(entries, composite, mask, real), kept for the next method where they are few and small."""
    own = metrics.get_protocol(protocol).size
    side = own and (size or own)
    if side and sum(map(len, groups)) * side**2 <= KEPT_PIXELS:
        return _kept(groups, protocol, size)
    return _read(groups, protocol, size)


@lru_cache(maxsize=4)
def _kept(groups: tuple[tuple[Entry, ...], ...], protocol: str, size: int | None) -> list[Batch]:
    return list(_read(groups, protocol, size))


def _read(groups: tuple[tuple[Entry, ...], ...], protocol: str, size: int | None) -> Iterator[Batch]:
    """Batches, read ahead by threads; a group is one picture where sizes differ (``fullres``)."""

    def read(entry: Entry):
        return metrics.read_triplet(entry.composite, entry.mask, entry.real, protocol, size)

    with ThreadPoolExecutor(READERS) as pool:
        waiting: list = []
        for number, group in enumerate(groups):
            ahead = groups[number + len(waiting) : number + 3]  # at most three batches in memory, however large the set
            waiting += [[pool.submit(read, entry) for entry in batch] for batch in ahead]
            triplets = [future.result() for future in waiting.pop(0)]
            composite, real, mask = (np.stack([t[i] for t in triplets]).astype(np.float32) for i in range(3))
            pictures = [torch.from_numpy(array).permute(0, 3, 1, 2) for array in (composite, real)]
            yield group, pictures[0], torch.from_numpy(mask)[:, None], pictures[1]

"""The loader: triplets in iHarmony4's layout as a torch Dataset."""

import numpy as np
import torch
from torch.utils.data import Dataset

from harmonylib.data.layout import Entry, open_mask, open_rgb, read_entries, size_mismatch
from harmonylib.errors import HarmonyError
from harmonylib.metrics import resize_image, resize_mask


class HarmonyDataset(Dataset):
    """Triplets of one split. Items are dicts: composite, target (3,H,W) and mask (1,H,W) float32 in [0,1], and the
    strings name, subset, photo, group, kind."""

    def __init__(self, entries: list[Entry], size: int | None):
        self.entries, self.size = entries, size

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> dict:
        entry = self.entries[index]
        composite, target, mask = open_rgb(entry.composite), open_rgb(entry.real), open_mask(entry.mask)
        for path, picture in ((entry.real, target), (entry.mask, mask)):
            if picture.size != composite.size:
                raise HarmonyError(size_mismatch(entry, path, picture.size, composite.size))
        if self.size is None:
            arrays = np.asarray(composite), np.asarray(target), np.asarray(mask) / np.float32(255)
        else:
            arrays = (
                resize_image(composite, "bcmi256", self.size),
                resize_image(target, "bcmi256", self.size),
                resize_mask(mask, "bcmi256", self.size),
            )
        composite, target = (torch.from_numpy(np.array(a, np.float32)).permute(2, 0, 1) / 255 for a in arrays[:2])
        item = {"composite": composite.contiguous(), "target": target.contiguous()}
        item["mask"] = torch.from_numpy(np.array(arrays[2], np.float32))[None]
        return item | {key: getattr(entry, key) for key in ("name", "subset", "photo", "group", "kind")}


def open_dataset(root, subset="all", split="test", size: int | None = 256, val_share: float = 0.1) -> HarmonyDataset:
    """Open a set in iHarmony4's layout.

    Args:
        root: the set's top folder.
        subset: ``all`` or one of HCOCO, HAdobe5k, HFlickr, Hday2night.
        split: ``train``, ``val`` or ``test``. Where the lists name no ``val``, it is `val_share` of the training
            photographs, by hash, and they leave ``train``.
        size: side in px of the squares to resize to (Pillow bicubic; the mask binarised, then nearest), or None for
            each picture's own size (the mask then stays soft).

    Raises HarmonyError for a bad layout at once, for a file that cannot be decoded or does not fit when it is read.
    """
    if size is not None and (not isinstance(size, int) or size < 1):
        raise HarmonyError(f"size {size!r}: give a positive number of pixels, or None for each picture's own size")
    return HarmonyDataset(read_entries(root, subset, split, val_share), size)

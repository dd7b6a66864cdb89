"""Batches to train on: from the prepared cache, against decoding the files in every epoch."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.pictures import write_set
from benchmarks.timing import Machine, Row, compare
from harmonylib.batches import Triplets
from harmonylib.data.cache import prepare
from harmonylib.data.layout import Entry, read_entries

PICTURES, BATCH, SIZE = 96, 16, 256


class Decoded(Dataset):
    """What a user would write: Pillow opens the three files, torchvision resizes and converts them."""

    def __init__(self, entries: list[Entry]):
        self.entries = entries
        self.picture = v2.Compose([v2.ToImage(), v2.Resize((SIZE, SIZE)), v2.ToDtype(torch.float32, scale=True)])
        nearest = v2.Resize((SIZE, SIZE), v2.InterpolationMode.NEAREST)
        self.mask = v2.Compose([v2.ToImage(), nearest, v2.ToDtype(torch.float32, scale=True)])

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        entry = self.entries[index]
        composite, real = (self.picture(Image.open(path).convert("RGB")) for path in (entry.composite, entry.real))
        return composite, self.mask(Image.open(entry.mask).convert("L")), real


def rows(machine: Machine) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "set"
        write_set(root, PICTURES)
        entries = read_entries(root, "all", "train")
        kept = os.environ.get("HARMONY_DATA")
        os.environ["HARMONY_DATA"] = folder  # the cache is left behind nowhere
        try:
            cache = prepare(entries, SIZE, say=lambda line: None)
        finally:
            os.environ.pop("HARMONY_DATA")
            os.environ |= {"HARMONY_DATA": kept} if kept else {}
        batches = Triplets(cache, np.arange(len(cache)), BATCH, seed=0, device=machine.device)
        decoded = DataLoader(Decoded(entries), BATCH, shuffle=True)  # no workers: the cache has none either

        def theirs() -> None:
            for composite, mask, real in decoded:
                composite.to(machine.device), mask.to(machine.device), real.to(machine.device)

        yield compare(
            machine,
            f"training batches of {BATCH} from the cache, {SIZE} px, {PICTURES} pictures",
            "Pillow and torchvision v2 decoding the JPEGs each epoch, same workers (0)",
            lambda: [batches[step] for step in range(PICTURES // BATCH)],
            theirs,
            aim=10,
            moved=PICTURES * SIZE**2 * 7 * (1 + 4),  # levels are read, floats written
        )

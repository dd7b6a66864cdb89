"""Everything that reads a file: what is done with one, small files that it reads, and how they are spoilt.

A reader takes a file's bytes and a folder that was prepared for it, and ends in a result or in a HarmonyError. Anything
else is a loss: another exception, a file beside the folder, seconds, gigabytes.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hypothesis.strategies import SearchStrategy

from harmonylib import (
    picture_masks,
)
from harmonylib.data import fetch
from torture import strategies as spoil
from torture.readers_of_runs import (
    NOTEBOOK,
    PLANS,
    ROWS,
    RUN,
    VOTES,
    as_safetensors,
    pickled,
    read_cache,
    read_checkpoint,
    read_notebook,
    read_plan,
    read_record,
    read_rows,
    read_votes,
    sound_cache,
    sound_checkpoints,
    sound_record,
    spoilt_checkpoints,
    spoilt_record,
    text,
    write_cache,
    write_records,
)
from torture.readers_of_sets import (
    ANNOTATIONS,
    LINE_WORDS,
    LINES,
    LISTED,
    MEMBER,
    NOTE,
    POLYGONS,
    SIZE,
    read_archive,
    read_coco,
    read_list,
    read_mask,
    read_note,
    read_picture,
    sound_archives,
    sound_pictures,
    spoilt_pictures,
    write_coco,
    write_set,
    written,
)


@dataclass(frozen=True)
class Reader:
    """prepare: fills the folder that `read` gets; sound: files that it reads; spoilt: the same, and worse."""

    name: str
    read: Callable[[bytes, Path], object]
    sound: Callable[[], list[bytes]]
    spoilt: Callable[[], SearchStrategy[bytes]]
    prepare: Callable[[Path], None] = lambda folder: None

    def place(self, base: Path) -> Path:
        """A prepared folder inside `base`."""
        folder = Path(tempfile.mkdtemp(dir=base)) / "root"
        folder.mkdir()
        self.prepare(folder)
        return folder


READERS = {
    reader.name: reader
    for reader in (
        Reader("pictures", read_picture, partial(sound_pictures, (5, 4)), spoilt_pictures),
        Reader("masks", read_mask, partial(sound_pictures, SIZE), partial(spoilt_pictures, SIZE)),
        Reader("polygons", lambda c, f: picture_masks.polygons(written(c, f / "mask.json"), SIZE),
               lambda: [text(p) for p in POLYGONS], lambda: spoil.edited_json(POLYGONS)),
        Reader("lists", read_list, lambda: [LINES], lambda: spoil.edited_bytes([LINES], LINE_WORDS), write_set),
        Reader("COCO JSON", read_coco, lambda: [text(ANNOTATIONS)],
               lambda: spoil.edited_json([ANNOTATIONS]), write_coco),
        Reader("lists to fetch", lambda c, f: fetch._listed(written(c, f / "list")),
               lambda: [LISTED, text(ANNOTATIONS)],
               lambda: spoil.edited_tables([LISTED]) | spoil.edited_json([ANNOTATIONS])),
        Reader("archives", read_archive, sound_archives, lambda: spoil.edited_archives(MEMBER, LISTED)),
        Reader("notes of downloads", read_note, lambda: [text(NOTE)], lambda: spoil.edited_json([NOTE])),
        Reader("checkpoints", partial(read_checkpoint, ending=".pt"),
               lambda: [pickled(saved) for saved in sound_checkpoints()], partial(spoilt_checkpoints, pickled)),
        Reader("safetensors", partial(read_checkpoint, ending=".safetensors"),
               lambda: [as_safetensors(saved) for saved in sound_checkpoints()],
               partial(spoilt_checkpoints, as_safetensors)),
        *(Reader(f"records: {file}", partial(read_record, file=file), partial(sound_record, file),
                 partial(spoilt_record, file), write_records) for file in RUN),
        Reader("rows of evaluate", read_rows, lambda: ROWS, lambda: spoil.edited_tables(ROWS)),
        Reader("votes", read_votes, lambda: VOTES, lambda: spoil.edited_tables(VOTES)),
        Reader("plans", read_plan, lambda: PLANS, lambda: spoil.edited_tables(PLANS)),
        Reader("caches: manifest.json", partial(read_cache, file="manifest.json"),
               partial(sound_cache, "manifest.json"),
               lambda: spoil.edited_json([json.loads(c) for c in sound_cache("manifest.json")]), write_cache),
        Reader("caches: index.csv", partial(read_cache, file="index.csv"), partial(sound_cache, "index.csv"),
               lambda: spoil.edited_tables(list(sound_cache("index.csv"))), write_cache),
        Reader("caches: real.npy", partial(read_cache, file="real.npy"), partial(sound_cache, "real.npy"),
               lambda: spoil.edited_bytes(list(sound_cache("real.npy")), (b"'shape': (", b"<f8", b"|O", b"\x93NUMPY")),
               write_cache),
        Reader("notebooks", read_notebook, lambda: [text(NOTEBOOK)], lambda: spoil.edited_json([NOTEBOOK])),
    )
}  # fmt: skip

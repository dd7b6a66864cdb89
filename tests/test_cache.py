"""The prepared cache: the loader's pixels, whole or not at all, and made anew when a file changes."""

import hashlib
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from harmonylib.data import cache as caching
from harmonylib.data.cache import open_cache, prepare, prepare_photographs
from harmonylib.data.dataset import HarmonyDataset
from harmonylib.data.layout import pictures_below, read_entries

SIZE = 24


def quiet(*_):
    pass


@pytest.fixture
def entries(own_set):
    return read_entries(own_set, "HCOCO", "train")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def caches():
    folder = caching.data_dir() / "cache"
    return list(folder.iterdir()) if folder.exists() else []


def test_the_pixels_are_the_loaders(entries):
    cache = prepare(entries, SIZE, say=quiet)
    dataset = HarmonyDataset(entries, SIZE)
    assert len(cache) == len(dataset)
    for row, item in zip(cache.index.itertuples(), dataset, strict=True):
        assert (row.name, row.subset, row.photo, row.kind) == (
            item["name"],
            item["subset"],
            item["photo"],
            item["kind"],
        )
        for key, array in (("composite", cache.composite[row.Index]), ("target", cache.real[row.real])):
            np.testing.assert_array_equal(array, (255 * item[key]).round().permute(1, 2, 0))
        np.testing.assert_array_equal(cache.mask[row.mask], item["mask"][0])


def test_photographs_and_masks_are_kept_once(entries):
    cache = prepare(entries, SIZE, say=quiet)
    assert cache.composite.shape == (14, SIZE, SIZE, 3)
    assert cache.real.shape == (7, SIZE, SIZE, 3)
    assert cache.mask.shape == (7, SIZE, SIZE)
    assert {a.dtype for a in (cache.composite, cache.real, cache.mask)} == {np.dtype(np.uint8)}


def test_the_same_input_gives_the_same_bytes(entries, tmp_path, monkeypatch):
    first = prepare(entries, SIZE, workers=1, say=quiet)
    monkeypatch.setenv("HARMONY_DATA", str(tmp_path / "elsewhere"))
    second = prepare(entries, SIZE, workers=3, say=quiet)
    assert first.folder != second.folder
    assert first.folder.name == second.folder.name
    assert contents(first.folder) == contents(second.folder)
    assert first.data_hash == second.data_hash


def test_the_hash_is_of_the_content_and_not_of_the_place(own_set, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(own_set, copy)
    here, there = (prepare(read_entries(root, "HCOCO", "train"), SIZE, say=quiet) for root in (own_set, copy))
    assert here.data_hash == there.data_hash


def test_the_hash_is_of_names_and_contents(entries, own_set):
    cache = prepare(entries, SIZE, say=quiet)
    files = {path for e in entries for path in (e.composite, e.mask, e.real)}
    hashes = {p.relative_to(own_set).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    listed = (cache.folder / "files.sha256").read_text()
    assert listed == "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    document = json.dumps({"size": SIZE, "files": hashes}, sort_keys=True)
    assert cache.data_hash == hashlib.sha256(document.encode()).hexdigest()[:16]


def test_photographs_of_one_name_in_two_folders(entries, tmp_path):
    """Their hash is of both, whatever the folders are called above the first that they share."""
    hashes = set()
    for place, order in (("here", (0, 1)), ("there", (0, 1)), ("swapped", (1, 0)), ("same", (1, 1))):
        for folder, number in zip("ab", order, strict=True):
            (tmp_path / place / folder).mkdir(parents=True)
            shutil.copy(entries[5 * number].real, tmp_path / place / folder / "p.jpg")
        found = prepare_photographs(pictures_below(tmp_path / place), SIZE, say=quiet)
        assert found.pixels.shape == (2, SIZE, SIZE, 3)
        hashes.add(found.data_hash)
    assert len(hashes) == 3


def test_a_second_prepare_decodes_nothing(entries, monkeypatch):
    first = prepare(entries, SIZE, say=quiet)

    def decoded(*_):
        raise AssertionError("a file was decoded again")

    for name in ("problems", "open_rgb", "open_mask"):
        monkeypatch.setattr(caching, name, decoded)
    second = prepare(entries, SIZE, say=decoded)
    assert second.folder == first.folder
    np.testing.assert_array_equal(second.composite, first.composite)


def test_a_changed_file_makes_another_cache(entries):
    first = prepare(entries, SIZE, say=quiet)
    with Image.open(entries[0].composite) as image:
        changed = image.point(lambda level: 255 - level)
    changed.save(entries[0].composite, quality=95)
    second = prepare(entries, SIZE, say=quiet)
    assert second.folder != first.folder
    assert second.data_hash != first.data_hash
    assert (second.composite[0] != first.composite[0]).any()
    np.testing.assert_array_equal(second.composite[1:], first.composite[1:])


def test_a_touched_file_does_not_change_the_hash(entries):
    first = prepare(entries, SIZE, say=quiet)
    os.utime(entries[0].real, (1, 1))
    assert prepare(entries, SIZE, say=quiet).data_hash == first.data_hash


def test_size_and_choice_of_entries_make_other_caches(entries):
    folders = {prepare(part, size, say=quiet).folder for part in (entries, entries[:4]) for size in (SIZE, 16)}
    assert len(folders) == 4


def test_bad_files_are_named_before_anything_is_written(entries, refused):
    entries[0].composite.write_text("no picture")
    entries[4].mask.write_bytes(b"")
    with refused("more"):
        prepare(entries, SIZE, say=quiet)
    assert caches() == []


def test_an_interrupted_prepare_leaves_nothing(entries, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(caching, "resize_mask", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(entries, SIZE, say=quiet)
    assert caches() == []
    assert len(prepare(entries, SIZE, say=quiet)) == len(entries)


def test_half_a_cache_is_made_anew(entries):
    folder = prepare(entries, SIZE, say=quiet).folder
    whole = contents(folder)
    (folder / "manifest.json").unlink()
    (folder / "real.npy").write_bytes(b"")
    assert contents(prepare(entries, SIZE, say=quiet).folder) == whole


@pytest.mark.parametrize("head", [b"00001", b'"""""', b"0x"])
def test_a_head_that_is_no_python(entries, refused, head):
    folder = prepare(entries, SIZE, say=quiet).folder
    file = folder / "real.npy"
    file.write_bytes(file.read_bytes().replace(b"False", head.ljust(5), 1))
    with refused("a damaged cache"):
        open_cache(folder)


def test_rows_of_entries(entries, own_set, refused):
    cache = open_cache(prepare(entries, SIZE, say=quiet).folder)
    rows = cache.rows(entries[::-1])
    assert [cache.index["name"][row] for row in rows] == [e.name for e in entries[::-1]]
    other = read_entries(own_set, "HCOCO", "test")
    with refused(other[0].name):
        cache.rows(other)

"""Reading a set in iHarmony4's layout: what is right is read, and what is wrong is named in one line."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from harmonylib.data.dataset import open_dataset
from harmonylib.data.layout import FOLDERS, SUBSETS, Entry, hold_out, pictures_below, problems, read_entries, take_share

FIRST = "cscene0000_1_1"  # the first of HCOCO's test list
FILES = {
    "composite": f"HCOCO/composite_images/{FIRST}.jpg",
    "mask": "HCOCO/masks/cscene0000_1.png",
    "real": "HCOCO/real_images/cscene0000.jpg",
}


def set_list(root, *lines, name="HCOCO/HCOCO_test.txt"):
    (root / name).write_text("".join(f"{line}\n" for line in lines))


def test_every_subset_and_split(tiny_set):
    for split, photographs in (("test", 4), ("train", 7), ("val", 1)):
        entries = read_entries(tiny_set, "all", split)
        assert [e.subset for e in entries] == sorted((e.subset for e in entries), key=SUBSETS.index)
        for subset in ("HCOCO", "HAdobe5k", "HFlickr"):
            own = read_entries(tiny_set, subset, split)
            assert own == [e for e in entries if e.subset == subset]
            assert len(own) == 2 * photographs
        assert all(path.is_file() for e in entries for path in (e.composite, e.mask, e.real))


def test_an_entry_knows_its_files_its_photograph_and_its_kind(tmp_path):
    entry = Entry(tmp_path, "Hday2night", "d9-12_1_3")
    assert (entry.photo, entry.group, entry.kind) == ("d9-12", "d9", "photo")
    assert entry.composite == tmp_path / "Hday2night/composite_images/d9-12_1_3.jpg"
    assert entry.mask == tmp_path / "Hday2night/masks/d9-12_1.png"
    assert entry.real == tmp_path / "Hday2night/real_images/d9-12.jpg"
    assert Entry(tmp_path, "HCOCO", "cscene0001_1_1").kind == "scene"


def test_common_lists_alone_suffice(tiny_set, own_set):
    for split in ("train", "test"):
        (own_set / f"HCOCO/HCOCO_{split}.txt").unlink()
    for split in ("train", "val", "test"):
        names = [e.name for e in read_entries(own_set, "HCOCO", split)]
        assert names == [e.name for e in read_entries(tiny_set, "HCOCO", split)]


def test_lists_may_have_blank_lines_windows_ends_and_folders(own_set):
    lines = f"{FIRST}.jpg\r\n\r\nHCOCO/composite_images/cscene0001_1_2.jpg\r\n"
    (own_set / "HCOCO/HCOCO_test.txt").write_bytes(lines.encode())
    assert [e.name for e in read_entries(own_set, "HCOCO")] == [FIRST, "cscene0001_1_2"]


# ------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("missing", FILES)
def test_missing_file(own_set, refused, missing):
    path = own_set / FILES[missing]
    path.unlink()
    with refused(path, "missing"):
        read_entries(own_set, "HCOCO", "test")


def truncated(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def of_text(path):
    path.write_text("not a picture\n")


def of_no_bytes(path):
    path.write_bytes(b"")


def in_lab(path):
    Image.frombytes("LAB", (48, 40), bytes(3 * 48 * 40)).save(path, "TIFF")  # whatever its name says


def of_other_size(path):
    with Image.open(path) as image:
        image.resize((30, 20)).save(path)


def black(path):
    Image.new("L", (48, 40)).save(path)


def almost_black(path):
    Image.new("L", (48, 40), 127).save(path)


UNREADABLE = [(file, damage) for file in FILES for damage in (truncated, of_text, of_no_bytes, in_lab)]
DAMAGES = [*UNREADABLE, ("mask", of_other_size), ("real", of_other_size), ("mask", black), ("mask", almost_black)]


@pytest.mark.parametrize(("file", "damage"), DAMAGES)
def test_damaged_file_is_named_when_it_is_read(own_set, refused, file, damage):
    path = own_set / FILES[file]
    damage(path)
    with refused(path):
        open_dataset(own_set, "HCOCO", "test", size=16)[0]
    found = problems(read_entries(own_set, "HCOCO", "test"))
    assert found
    assert all(str(path) in line and "\n" not in line for line in found)


def test_a_composite_of_another_size_is_named(own_set, refused):
    of_other_size(own_set / FILES["composite"])
    with refused(FIRST, "30x20", "48x40"):
        open_dataset(own_set, "HCOCO", "test", size=16)[0]
    assert all(FIRST in line for line in problems(read_entries(own_set, "HCOCO", "test")))


def test_problems_lists_every_bad_file_once(own_set):
    assert problems(read_entries(own_set, "HCOCO", "test")) == []
    bad = [
        own_set / FILES["composite"],
        own_set / "HCOCO/masks/cscene0001_1.png",
        own_set / "HCOCO/real_images/cscene0002.jpg",
    ]
    for path in bad:
        truncated(path)
    found = problems(read_entries(own_set, "HCOCO", "test"))
    assert len(found) == len(bad)
    for path in bad:
        assert sum(str(path) in line for line in found) == 1


def test_problems_lists_all_three_files_of_one_triplet(own_set):
    for path in FILES.values():
        truncated(own_set / path)
    found = "\n".join(problems(read_entries(own_set, "HCOCO", "test")))
    for path in FILES.values():
        assert str(own_set / path) in found


@pytest.mark.parametrize(("wrong", "right"), [("HDay2night", "Hday2night"), ("hcoco", "HCOCO")])
def test_subset_folder_in_wrong_case(own_set, refused, wrong, right):
    (own_set / right).rename(own_set / wrong) if (own_set / right).exists() else (own_set / wrong).mkdir()
    with refused(own_set / wrong, right):
        read_entries(own_set, "all", "test")


@pytest.mark.parametrize("folder", FOLDERS)
def test_inner_folder_in_wrong_case(own_set, refused, folder):
    (own_set / "HCOCO" / folder).rename(own_set / "HCOCO" / folder.capitalize())
    with refused(own_set / "HCOCO" / folder.capitalize(), folder):
        read_entries(own_set, "HCOCO", "test")


CLIMBING = [
    "../x_1_1.jpg",
    "HCOCO/composite_images/../../x_1_1.jpg",
    "/etc/x_1_1.jpg",
    r"..\x_1_1.jpg",
    r"C:\x_1_1.jpg",
]
MALFORMED = ["c1.jpg", "c1_1.jpg", "c1_1_1.png", "c1_1_1", "HCOCO/masks/c1_1_1.jpg", "HCOCO/c1_1_1.jpg", "{}"]


@pytest.mark.parametrize("line", [*CLIMBING, *MALFORMED, "HFlickr/composite_images/f100_1_1.jpg"])
def test_a_bad_line_is_named_with_its_list_and_number(own_set, refused, line):
    set_list(own_set, f"{FIRST}.jpg", line)
    with refused(own_set / "HCOCO/HCOCO_test.txt", "line 2"):
        read_entries(own_set, "HCOCO", "test")


@pytest.mark.parametrize("line", [*CLIMBING, *MALFORMED, "hcoco/composite_images/c1_1_1.jpg"])
def test_a_bad_line_of_the_common_list_is_not_passed_over(own_set, refused, line):
    (own_set / "HCOCO/HCOCO_test.txt").unlink()
    set_list(own_set, FILES["composite"], line, name="IHD_test.txt")
    with refused(own_set / "IHD_test.txt", "line 2"):
        read_entries(own_set, "all", "test")


@pytest.mark.parametrize("file", FILES)
def test_a_link_out_of_the_set_is_refused(own_set, tmp_path, refused, file):
    inside, outside = own_set / FILES[file], tmp_path / "outside"
    shutil.move(inside, outside)
    os.symlink(outside, inside)
    with refused("link"):
        read_entries(own_set, "HCOCO", "test")


def test_the_set_itself_may_be_a_link(own_set, tmp_path):
    (tmp_path / "linked").symlink_to(own_set)
    assert len(read_entries(tmp_path / "linked", "HCOCO", "test")) == 8


def test_missing_lists(own_set, refused):
    (own_set / "HCOCO/HCOCO_test.txt").unlink()
    (own_set / "IHD_test.txt").unlink()
    with refused(own_set / "HCOCO/HCOCO_test.txt", "no such list"):
        read_entries(own_set, "HCOCO", "test")


def test_empty_list(own_set, refused):
    set_list(own_set)
    with refused(own_set, "empty"):
        read_entries(own_set, "HCOCO", "test")


def test_a_list_that_is_no_text(own_set, refused):
    (own_set / "HCOCO/HCOCO_test.txt").write_bytes(b"\xff\xfe\x00c")
    with refused(own_set / "HCOCO/HCOCO_test.txt"):
        read_entries(own_set, "HCOCO", "test")


def test_unknown_split_subset_and_root(own_set, tmp_path, refused):
    with refused("'dev'", "train, val, test"):
        read_entries(own_set, "HCOCO", "dev")
    with refused("'COCO'", *SUBSETS):
        read_entries(own_set, "COCO", "test")
    with refused(own_set / "HFlickr", "HCOCO"):
        read_entries(own_set, "HFlickr", "test")
    with refused(tmp_path / "nowhere"):
        read_entries(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with refused(tmp_path / "empty", *SUBSETS):
        read_entries(tmp_path / "empty")


@pytest.mark.parametrize("size", [0, -1, 2.5, "64"])
def test_sizes_that_are_none(tiny_set, refused, size):
    with refused(repr(size)):
        open_dataset(tiny_set, size=size)


# ------------------------------------------------------------------------------------------------------ splits


@pytest.mark.parametrize("share", [0.1, 1 / 3, 0.5])
def test_validation_is_disjoint_by_photograph(tiny_set, share):
    train, val = (read_entries(tiny_set, "all", split, share) for split in ("train", "val"))
    assert val
    assert not {e.group for e in train} & {e.group for e in val}
    assert len(train) + len(val) == 4 * 8 * 2
    for subset, groups in (("HCOCO", 8), ("HFlickr", 8), ("Hday2night", 4)):
        assert len({e.group for e in val if e.subset == subset}) == max(1, round(share * groups))


def test_views_of_one_thing_stay_together(tiny_set):
    train, val = (read_entries(tiny_set, "Hday2night", split, 0.5) for split in ("train", "val"))
    for part in (train, val):
        for group in {e.group for e in part}:
            assert {e.photo for e in part if e.group == group} == {f"{group}-1", f"{group}-2"}


def test_the_side_of_a_photograph_does_not_depend_on_the_order_of_the_list(own_set):
    before = {e.name for e in read_entries(own_set, "HCOCO", "val", 0.3)}
    path = own_set / "HCOCO/HCOCO_train.txt"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    assert {e.name for e in read_entries(own_set, "HCOCO", "val", 0.3)} == before


def test_a_validation_list_wins(own_set):
    listed = read_entries(own_set, "HCOCO", "train", 0)
    chosen = [e.name for e in listed if e.photo == "cscene0011"]
    path = own_set / "HCOCO/HCOCO_train.txt"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "cscene0011" not in line))
    set_list(own_set, *(f"{name}.jpg" for name in chosen), name="HCOCO/HCOCO_val.txt")
    assert [e.name for e in read_entries(own_set, "HCOCO", "val")] == chosen
    assert len(read_entries(own_set, "HCOCO", "train")) == len(listed) - len(chosen)


def photographs(count):
    return [Entry(None, "HCOCO", f"c{i}_1_{k}") for i in range(count) for k in (1, 2)]


@pytest.mark.parametrize("share", [0.1, 0.25, 0.3, 0.5])
def test_hold_out_takes_the_exact_share(share):
    entries = photographs(40)
    kept, held = hold_out(entries, share)
    assert len({e.photo for e in held}) == round(share * 40)
    assert sorted((*kept, *held), key=entries.index) == entries
    assert not {e.photo for e in kept} & {e.photo for e in held}
    assert len(hold_out(entries, share, by="name")[1]) == round(share * 80)
    assert hold_out(entries, 0) == (entries, [])


def test_smaller_shares_lie_inside_larger_ones():
    entries = photographs(40)
    small, large = take_share(entries, 0.1), take_share(entries, 0.3)
    assert len({e.photo for e in small}) == 4
    assert len({e.photo for e in large}) == 12
    assert set(small) < set(large)
    assert take_share(entries, 1.0) == entries


# ------------------------------------------------------------------------------------------------------- items


def test_items_have_the_contracts_keys_shapes_and_ranges(tiny_set):
    items = open_dataset(tiny_set, "all", "test", size=32)
    assert len(items) == 32
    item = items[0]
    assert {"composite", "target", "mask", "name", "subset", "photo"} <= item.keys()
    assert (item["name"], item["subset"], item["photo"]) == (FIRST, "HCOCO", "cscene0000")
    for key, shape in (("composite", (3, 32, 32)), ("target", (3, 32, 32)), ("mask", (1, 32, 32))):
        assert item[key].shape == shape
        assert item[key].dtype == torch.float32
        assert 0 <= item[key].min() < item[key].max() <= 1
    assert set(item["mask"].unique().tolist()) == {0.0, 1.0}
    batch = next(iter(torch.utils.data.DataLoader(items, batch_size=4)))
    assert batch["composite"].shape == (4, 3, 32, 32)


def test_items_are_resized_as_the_default_protocol_says(tiny_set):
    item = open_dataset(tiny_set, "HCOCO", "test", size=32)[0]
    picture = Image.open(tiny_set / FILES["real"]).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal((255 * item["target"]).round().permute(1, 2, 0), np.asarray(picture))
    binary = Image.fromarray((np.asarray(Image.open(tiny_set / FILES["mask"])) > 127).astype(np.uint8))
    np.testing.assert_array_equal(item["mask"][0], np.asarray(binary.resize((32, 32), Image.Resampling.NEAREST)))


def test_own_size_keeps_every_pixel_and_the_soft_mask(tiny_set):
    item = open_dataset(tiny_set, "HCOCO", "test", size=None)[0]
    for key, file in (("composite", "composite"), ("target", "real")):
        assert item[key].shape == (3, 40, 48)
        np.testing.assert_array_equal(
            (255 * item[key]).round().permute(1, 2, 0), np.asarray(Image.open(tiny_set / FILES[file]))
        )
    soft = np.asarray(Image.open(tiny_set / FILES["mask"])) / 255
    assert ((soft > 0) & (soft < 1)).any()
    np.testing.assert_allclose(item["mask"][0], soft, atol=1e-6)


def test_pictures_below_a_folder_are_paths_in_order(tmp_path):
    for name in ("b/x.JPG", "a/y.png", "a/.jpg", "a/notes.txt", "z.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = pictures_below(tmp_path)
    assert list(found) == [tmp_path / name for name in ("a/y.png", "b/x.JPG", "z.webp")]
    assert list(found[1:]) == list(found)[1:] and found[-1] == tmp_path / "z.webp" and len(found) == 3
    assert not pictures_below(tmp_path / "none")

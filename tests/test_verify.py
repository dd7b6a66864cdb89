"""`data verify`: a clean set passes, and one fault of each kind is found where it is."""

import csv
import shutil

import numpy as np
import pytest
from PIL import Image

from harmonylib import official
from harmonylib.cli import main
from harmonylib.data.layout import Entry
from harmonylib.data.verify import ADVICE, report, sound, summary, verify


def found(root) -> set[tuple[str, str]]:
    return {(fault.kind, fault.file) for fault in verify(root)[1]}


def lines(root, name: str) -> list[str]:
    return (root / name).read_text().splitlines()


def write(root, name: str, content: list[str]) -> None:
    (root / name).write_text("".join(f"{line}\n" for line in content))


def test_a_clean_set_passes(tiny_set):
    sides, faults = verify(tiny_set)
    assert faults == []
    assert len(sides["train"]) == 4 * 16 and len(sides["test"]) == 4 * 8


def names(root) -> tuple[str, str, str]:
    """Of the first test triplet: composite, mask and target, relative to the root."""
    entry = verify(root)[0]["test"][0]
    return tuple(path.relative_to(root).as_posix() for path in (entry.composite, entry.mask, entry.real))


def plant_folder(root):
    (root / "HCOCO" / "masks").rename(root / "HCOCO" / "Masks")
    return "folder", "HCOCO/Masks"


def plant_no_list(root):
    (root / "HCOCO" / "HCOCO_test.txt").unlink()
    (root / "IHD_test.txt").unlink()
    return "list", "HCOCO/HCOCO_test.txt"


def plant_lists_that_differ(root):
    write(root, "IHD_test.txt", lines(root, "IHD_test.txt")[1:])
    return "list", "IHD_test.txt"


def plant_bytes_that_are_no_text(root):
    (root / "HCOCO" / "HCOCO_train.txt").write_bytes(b"\xff\xfe\x00c1_1_1.jpg")
    return "list", "HCOCO/HCOCO_train.txt"


def plant_line(root):
    write(root, "HCOCO/HCOCO_test.txt", [*lines(root, "HCOCO/HCOCO_test.txt"), "../../etc/passwd"])
    return "line", "HCOCO/HCOCO_test.txt"


def plant_listed_twice(root):
    test = lines(root, "HCOCO/HCOCO_test.txt")
    write(root, "HCOCO/HCOCO_test.txt", [*test, test[0]])
    return "listed twice", "HCOCO/HCOCO_test.txt"


def plant_composite_on_both_sides(root):
    composite = names(root)[0]
    write(root, "HCOCO/HCOCO_train.txt", [*lines(root, "HCOCO/HCOCO_train.txt"), composite.split("/")[-1]])
    return "composite on both sides", composite


def plant_photograph_on_both_sides(root):
    test = lines(root, "HCOCO/HCOCO_test.txt")
    for name in ("HCOCO/HCOCO_{}.txt", "IHD_{}.txt"):
        test = lines(root, name.format("test"))
        write(root, name.format("test"), test[1:])
        write(root, name.format("train"), [*lines(root, name.format("train")), test[0]])
    return "photograph on both sides", names(root)[2]


def plant_missing(root):
    mask = names(root)[1]
    (root / mask).unlink()
    return "missing", mask


def plant_truncated(root):
    composite = names(root)[0]
    (root / composite).write_bytes((root / composite).read_bytes()[:-200])
    return "unreadable", composite


def plant_page(root):
    real = names(root)[2]
    (root / real).write_text("<html>404</html>")
    return "unreadable", real


def plant_size(root):
    real = names(root)[2]
    Image.open(root / real).resize((20, 20)).save(root / real)
    return "size", real


def plant_empty_mask(root):
    mask = names(root)[1]
    Image.new("L", Image.open(root / mask).size).save(root / mask)
    return "mask", mask


def plant_full_mask(root):
    mask = names(root)[1]
    Image.new("L", Image.open(root / mask).size, 255).save(root / mask)
    return "mask", mask


def plant_background(root):
    composite = names(root)[0]
    other = np.asarray(Image.open(root / composite))[::-1]
    Image.fromarray(255 - other).save(root / composite, quality=95)
    return "background", composite


def plant_duplicate(root):
    composite, _, real = names(root)
    shutil.copy(root / real, root / composite)
    return "duplicate", composite


def plant_not_listed(root):
    shutil.copy(root / names(root)[0], root / "HCOCO/composite_images/c999_1_1.jpg")
    return "not listed", "HCOCO/composite_images/c999_1_1.jpg"


PLANTS = [plant for name, plant in sorted(globals().items()) if name.startswith("plant_")]


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_fault_is_found_where_it_is(own_set, plant):
    kind, file = plant(own_set)
    assert (kind, file) in found(own_set)
    assert report(verify(own_set)[1])["advice"].all()


def test_all_faults_at_once(own_set):
    """Faults that leave the others' files alone are found together, and nothing stops at the first."""
    planted = {plant_line(own_set), plant_listed_twice(own_set), plant_empty_mask(own_set), plant_not_listed(own_set)}
    assert planted <= found(own_set)


def test_a_list_of_wrong_lines_is_not_read_to_its_end(own_set, monkeypatch):
    monkeypatch.setattr("harmonylib.data.verify.LINES", 3)
    write(own_set, "HCOCO/HCOCO_test.txt", ["a"] * 5)
    details = [fault.detail for fault in verify(own_set)[1] if fault.kind in ("line", "list")]
    assert len(details) == 4 and any("3 lines and more are wrong" in detail for detail in details)


def test_views_of_one_thing_on_both_sides(own_set):
    for split, view in (("train", "left"), ("test", "right")):
        name = lines(own_set, f"HCOCO/HCOCO_{split}.txt")[0]
        entry = Entry(own_set, "HCOCO", name.removesuffix(".jpg"))
        shutil.copy(entry.composite, entry.composite.with_name(f"cbike-{view}_1_1.jpg"))
        shutil.copy(entry.mask, entry.mask.with_name(f"cbike-{view}_1.png"))
        shutil.copy(entry.real, entry.real.with_name(f"cbike-{view}.jpg"))
        write(
            own_set, f"HCOCO/HCOCO_{split}.txt", [*lines(own_set, f"HCOCO/HCOCO_{split}.txt"), f"cbike-{view}_1_1.jpg"]
        )
    assert ("views on both sides", "HCOCO/real_images/cbike-left.jpg") in found(own_set)


def test_the_report_tells_what_to_do(own_set):
    planted = plant_missing(own_set)
    table = report(verify(own_set)[1])
    row = table[(table["kind"] == planted[0]) & (table["file"] == planted[1])].iloc[0]
    assert row["advice"] == ADVICE["missing"]
    assert summary(verify(own_set)[1])[0].startswith("missing: 1, first HCOCO/masks/")


def test_sound_leaves_out_what_cannot_be_read(own_set):
    plant_missing(own_set)
    sides, faults = verify(own_set)
    assert len(sides["test"]) == 8 and len(sound(sides["test"], faults)) == 6  # two composites share the mask


def test_no_set(tmp_path, refused):
    with refused("nowhere"):
        verify(tmp_path / "nowhere")
    with refused("none of the folders"):
        verify(tmp_path)


def test_command(own_set, tmp_path, capsys):
    assert main(["data", "verify", str(own_set)]) == 0
    assert "no fault" in capsys.readouterr().out
    planted = plant_truncated(own_set)
    assert main(["data", "verify", str(own_set), "--report", str(tmp_path / "faults.csv")]) == 1
    assert "unreadable: 1" in capsys.readouterr().out
    with open(tmp_path / "faults.csv") as file:
        assert planted in {(row["kind"], row["file"]) for row in csv.DictReader(file)}


def test_official_counts(tiny_set, monkeypatch):
    sides, _ = verify(tiny_set)
    assert len(official.check_counts(sides)) == 8  # four subsets, two lists
    own = {"HCOCO": (16, 8), "HAdobe5k": (16, 8), "HFlickr": (16, 8), "Hday2night": (16, 9)}
    monkeypatch.setattr(official, "COUNTS", own)
    assert [f.file for f in official.check_counts(sides)] == ["Hday2night/Hday2night_test.txt"]


def test_the_official_lists_own_flaw_is_told_and_passes(own_set, monkeypatch, capsys):
    """Of the official Hday2night four scenes are on both sides; a copy cannot be asked to mend that."""
    (own_set / "HCOCO").rename(own_set / "Hday2night")
    for split in ("train", "test"):
        (own_set / f"Hday2night/HCOCO_{split}.txt").rename(own_set / f"Hday2night/Hday2night_{split}.txt")
    for path in own_set.glob("IHD_*.txt"):
        path.unlink()
    for split, day in (("train", "20120101"), ("test", "20120819")):
        names = lines(own_set, f"Hday2night/Hday2night_{split}.txt")
        entry = Entry(own_set, "Hday2night", names[0].removesuffix(".jpg"))
        moved = Entry(own_set, "Hday2night", f"d18118-{day}_1_1")
        for old, new in ((entry.composite, moved.composite), (entry.mask, moved.mask), (entry.real, moved.real)):
            shutil.copy(old, new)
            new.write_bytes(new.read_bytes() + day.encode())  # other bytes, the same picture
        write(own_set, f"Hday2night/Hday2night_{split}.txt", [*names, f"{moved.name}.jpg"])
    sides, faults = verify(own_set)
    assert {fault.kind for fault in faults} == {"views on both sides"}
    monkeypatch.setattr(official, "COUNTS", dict.fromkeys(official.COUNTS, (0, 0)) | {
        "Hday2night": (len(sides["train"]), len(sides["test"]))
    })  # fmt: skip
    row = official.check_nothing(sides["test"])[0].iloc[0]
    monkeypatch.setitem(official.NOTHING, "Hday2night", {m: row[m] for m in ("mse", "psnr", "fmse")})
    assert main(["data", "verify", str(own_set), "--official"]) == 0
    assert "as in the official lists: 1 views" in capsys.readouterr().out
    assert main(["data", "verify", str(own_set)]) == 1  # of any other set it is a fault


def test_a_report_that_cannot_be_written_is_refused_first(own_set, tmp_path, capsys):
    assert main(["data", "verify", str(own_set), "--report", str(tmp_path / "nowhere/faults.csv")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_official_row(tiny_set, monkeypatch):
    """Values that agree within 1 % pass, a value that does not is named."""
    test = verify(tiny_set)[0]["test"]
    table, faults = official.check_nothing(test)
    assert list(table["subset"]) == [*official.COUNTS, "all"] and len(faults) == 14
    published = {r["subset"]: {m: r[m] * 1.005 for m in ("mse", "psnr", "fmse")} for r in table.to_dict("records")}
    published["HFlickr"]["fmse"] *= 1.02
    monkeypatch.setattr(official, "NOTHING", published)
    again = official.check_nothing(test)[1]
    assert [(f.file, f.detail[:4]) for f in again] == [("HFlickr test", "fmse")]


def test_official_of_a_part(own_set):
    table, _ = official.check_nothing(verify(own_set)[0]["test"])
    assert list(table["subset"]) == ["HCOCO"]
    assert official.check_nothing([])[1] == []

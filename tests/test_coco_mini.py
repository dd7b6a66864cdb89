"""Pairs from a made-up set in COCO's format: what is in them, what decides them, what is refused."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from harmonylib.cli import main
from harmonylib.data import coco_mini
from harmonylib.data.coco import Object, read_objects
from harmonylib.data.coco_mini import Settings, build, recolour, why_broken
from harmonylib.data.layout import read_entries
from harmonylib.data.verify import verify

WIDTH, HEIGHT = 96, 72
CATEGORIES = {1: "cup", 2: "dog"}
SQUARE = [[20.0, 16.0, 60.0, 16.0, 60.0, 56.0, 20.0, 56.0]]


def photograph(seed: int) -> Image.Image:
    """A smooth coloured ground with texture, and an object of another colour where SQUARE is."""
    generator = np.random.default_rng(seed)
    ground = generator.uniform(70, 180, (1, 1, 3)) + np.linspace(-25, 25, WIDTH)[None, :, None]
    picture = np.repeat(ground, HEIGHT, 0) + generator.normal(0, 6, (HEIGHT, WIDTH, 3))
    picture[16:56, 20:60] += generator.uniform(-45, 45, 3)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def write_coco(root, count: int = 8, **changes) -> None:
    """`count` photographs with one object each, of two categories; `changes` replace keys of every annotation."""
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    images = [{"id": i, "file_name": f"{i:06d}.jpg", "width": WIDTH, "height": HEIGHT} for i in range(1, count + 1)]
    for image in images:
        photograph(image["id"]).save(root / "images" / image["file_name"], quality=95)
    annotations = [
        {"id": 100 + image["id"], "image_id": image["id"], "category_id": 1 + image["id"] % 2, "segmentation": SQUARE,
         "iscrowd": 0} | changes
        for image in images
    ]  # fmt: skip
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in CATEGORIES.items()],
    }
    (root / "annotations" / "instances_made_up.json").write_text(json.dumps(content))


def edit(root, change) -> None:
    """Rewrite the annotations after `change(content)`."""
    path = root / "annotations" / "instances_made_up.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture
def coco(tmp_path):
    write_coco(tmp_path / "coco")
    return tmp_path / "coco"


def hashes(root) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_set_that_verifies(coco, tmp_path):
    manifest = build(coco, tmp_path / "set")
    assert len(manifest) >= 8 and verify(tmp_path / "set")[1] == []
    listed = [e for split in ("train", "val", "test") for e in read_entries(tmp_path / "set", "HCOCO", split)]
    assert sorted(e.name for e in listed) == sorted(manifest["name"])
    assert {e.photo for e in listed} <= {f"c{i}" for i in range(1, 9)} and len({e.photo for e in listed}) > 4


def test_the_target_is_the_photograph_itself(coco, tmp_path):
    build(coco, tmp_path / "set")
    assert (tmp_path / "set/HCOCO/real_images/c3.jpg").read_bytes() == (coco / "images/000003.jpg").read_bytes()


def test_only_the_object_changes(coco, tmp_path):
    manifest = build(coco, tmp_path / "set")
    for name in manifest["name"]:
        folder = tmp_path / "set" / "HCOCO"
        real, composite = (
            np.asarray(Image.open(folder / kind / file)).astype(float)
            for kind, file in (("real_images", name.split("_")[0] + ".jpg"), ("composite_images", f"{name}.jpg"))
        )
        mask = np.asarray(Image.open(folder / "masks" / f"{name.rsplit('_', 1)[0]}.png")) / 255
        far = mask == 0
        far[14:58, 18:62] = False  # JPEG's blocks reach a little beyond the edge
        assert np.square(real - composite)[far].mean() < 3
        assert np.square(real - composite)[mask > 0.9].mean() > 20


def test_splits_are_by_photograph(coco, tmp_path):
    manifest = build(coco, tmp_path / "set", Settings(test_share=0.25, variants=3))
    sides = manifest.groupby("photograph")["split"].nunique()
    assert (sides == 1).all() and set(manifest["split"]) == {"train", "test"}


def test_the_recipe_is_in_the_manifest(coco, tmp_path):
    manifest = build(coco, tmp_path / "set")
    objects = {o.id: o for o in read_objects(coco)}
    for row in manifest.itertuples():
        reference = objects[row.reference_object]
        assert reference.photograph == row.reference != int(row.photograph[1:])
        assert reference.category == row.category
        assert coco_mini.STRENGTH[0] <= row.strength <= coco_mini.STRENGTH[1]
    assert manifest.groupby("photograph")["method"].nunique().max() == 2  # variants differ in method
    again = pd.read_csv(tmp_path / "set" / "manifest.csv")
    assert list(again["name"]) == list(manifest["name"])


def test_any_category_serves_where_there_is_no_other(tmp_path):
    write_coco(tmp_path / "coco", count=4)
    edit(tmp_path / "coco", lambda content: content["annotations"][0].update(category_id=1))
    edit(tmp_path / "coco", lambda content: [a.update(category_id=2) for a in content["annotations"][1:]])
    manifest = build(tmp_path / "coco", tmp_path / "set")
    lone = manifest[manifest["photograph"] == "c1"]
    assert len(lone) and set(lone["reference"]) <= {2, 3, 4}


def test_same_seed_same_bytes_whatever_the_workers(coco, tmp_path, monkeypatch):
    build(coco, tmp_path / "a", workers=1)
    with monkeypatch.context() as changed:
        changed.setattr(coco_mini, "WORTH_PROCESSES", 1)
        build(coco, tmp_path / "b", workers=2)  # two processes
    build(coco, tmp_path / "c", Settings(seed=1))
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    pairs = [
        {name: digest for name, digest in hashes(tmp_path / s).items() if "composite_images" in name}
        for s in ("a", "c")
    ]
    assert not set(pairs[0].items()) & set(pairs[1].items())


def test_a_limit_is_one_for_colours_too(coco, tmp_path, refused):
    manifest = build(coco, tmp_path / "some", limit=3)
    assert set(manifest["photograph"]) == {"c1", "c2", "c3"} and set(manifest["reference"]) <= {1, 2, 3}
    for limit, words in ((0, "limit 0"), (-1, "limit -1"), (1, "two or more")):
        with refused(words):
            build(coco, tmp_path / "other", limit=limit)


def test_a_photograph_under_two_names_is_on_one_side(coco, tmp_path):
    blobs(coco)
    for number in range(1, 9, 2):  # each odd one is the next even one, saved again
        Image.open(coco / f"images/{number + 1:06d}.jpg").save(coco / f"images/{number:06d}.jpg", quality=60)
    manifest = build(coco, tmp_path / "set", Settings(test_share=0.3))
    sides = manifest.groupby("photograph")["split"].first()
    pairs = [(sides.get(f"c{n}"), sides.get(f"c{n + 1}")) for n in range(1, 9, 2)]
    assert all(a == b for a, b in pairs if a and b) and {"train", "test"} == set(sides)


def test_masks_are_soft_at_the_edge_and_cover_what_the_polygon_covers():
    triangle = Object(1, 1, "cup", None, (40, 30), ((5.0, 4.0, 33.0, 9.0, 11.0, 26.0),))
    mask = triangle.mask()
    left, top, right, bottom = triangle.box
    assert mask.shape == (bottom - top, right - left)
    assert len(np.unique(mask)) > 8 and mask.min() == 0 and mask.max() == 1
    assert mask.sum() == pytest.approx(triangle.area * 40 * 30, rel=0.04)


def test_polygons_that_leave_the_photograph_are_cut():
    outside = Object(1, 1, "cup", None, (40, 30), ((-1e9, -50.0, 20.0, -50.0, 20.0, 1e9, -1e9, 1e9),))
    assert outside.box == (0, 0, 22, 30)
    assert outside.mask()[:, :19].min() == 1 and outside.mask()[:, -1].max() == 0


@pytest.mark.parametrize(
    "corners, side, refusal", [(1000, 300, False), (10_000, 20, False), (10_001, 20, True), (3000, 300, True)]
)
def test_outlines_without_end_are_refused(coco, refused, corners, side, refusal):
    zigzag = [way for x in range(corners) for way in (x % side, side * (x % 2))]
    edit(coco, lambda content: content["images"][2].update(width=side, height=side))
    edit(coco, lambda content: content["annotations"][2].update(segmentation=[zigzag[:1000], zigzag[1000:]]))
    if refusal:
        with refused("instances_made_up.json", "corners"):
            read_objects(coco)
    else:
        assert len(read_objects(coco)) == 8


@pytest.mark.parametrize("width", [-1, -2.2e183, 1e300, 70_000])
def test_photographs_of_impossible_size_are_refused(coco, refused, width):
    edit(coco, lambda content: content["images"][2].update(width=width))
    with refused("instances_made_up.json", "px a side"):
        read_objects(coco)


def test_links_within_the_folder_and_to_it_are_followed(coco, tmp_path, refused):
    (coco / "images").rename(coco / "elsewhere")
    (coco / "images").symlink_to("elsewhere")
    (tmp_path / "link").symlink_to(coco)
    assert len(read_objects(tmp_path / "link")) == 8
    (coco / "elsewhere").rename(tmp_path / "outside")
    (coco / "images").unlink()
    (coco / "images").symlink_to(tmp_path / "outside")
    with refused("images", "leads out"):
        read_objects(tmp_path / "link")


@pytest.mark.parametrize("area, used", [((0.01, 0.6), True), ((0.3, 0.6), False)])
def test_too_small_objects_are_left_out(coco, tmp_path, monkeypatch, refused, area, used):
    monkeypatch.setattr(coco_mini, "AREA", area)  # SQUARE covers 23 %
    if used:
        assert len(build(coco, tmp_path / "set"))
    else:
        with refused("0 photographs"):
            build(coco, tmp_path / "set")


def patch(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    inside = np.zeros((40, 40), bool)
    inside[5:35, 5:35] = True
    ramp = np.linspace(60, 190, 40)[None, :, None] + np.array([15, 0, -15])
    noise = np.random.default_rng(seed).normal(0, 4, (40, 40, 3))
    return (ramp + noise).clip(0, 255).astype(np.uint8), inside


def changed(function) -> str | None:
    before, inside = patch()
    after = np.where(inside[..., None], function(before.astype(float)).clip(0, 255), before).astype(np.uint8)
    return why_broken(before, after, inside)


@pytest.mark.parametrize(
    "reason, function",
    [
        ("hardly changed", lambda x: x + 2),
        ("overdone", lambda x: x - 55),
        ("clipped", lambda x: np.where(x > 170, 255, x - 20)),
        ("posterised", lambda x: 50 * np.round(x / 50)),
        ("flattened", lambda x: x.mean((0, 1)) + 0.1 * (x - x.mean((0, 1)))),
        ("discoloured", lambda x: np.repeat(x.mean(2, keepdims=True), 3, 2) * 0.9),
        (None, lambda x: 0.85 * x + (25, 5, -10)),
    ],
)
def test_what_a_person_would_drop(reason, function):
    assert changed(function) == reason


def test_reasons_are_counted(coco, tmp_path, monkeypatch):
    monkeypatch.setattr(coco_mini, "why_broken", lambda before, after, inside: "no reason")
    Image.new("L", (WIDTH, HEIGHT), 90).convert("RGB").save(coco / "images/000002.jpg")
    (coco / "images/000005.jpg").write_bytes(b"no picture")
    told = []
    with pytest.raises(Exception, match="no pair passed"):
        build(coco, tmp_path / "set", say=told.append)
    monkeypatch.undo()
    build(coco, tmp_path / "set", say=told.append)
    counts = pd.read_csv(tmp_path / "set/rejected.csv").set_index("reason")["count"]
    assert counts["grey photograph"] >= 1 and counts["unreadable photograph"] >= 1
    assert "grey photograph" in told[-1]


def test_the_edge_is_blended_and_the_rest_untouched():
    before, inside = patch()
    mask = inside.astype(np.float32)
    mask[5, 5:35] = 0.5
    after = recolour(before, mask, np.full((20, 3), 30, np.uint8), "cumulative_histogram", 1.0, None)
    assert np.array_equal(after[~inside], before[~inside])
    assert np.abs(after[10, 10].astype(int) - 30).max() <= 1
    halfway = (before[5, 10].astype(float) + 30) / 2
    assert np.abs(after[5, 10] - halfway).max() <= 1


def test_nothing_is_left_where_making_fails(coco, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(coco_mini, "_with_splits", broken)
    with pytest.raises(OSError):
        build(coco, tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["coco"]


def test_bad_input(coco, tmp_path, refused):
    with refused("nowhere"):
        build(tmp_path / "nowhere", tmp_path / "set")
    (tmp_path / "there").mkdir()
    with refused("there", "already"):
        build(coco, tmp_path / "there")
    with refused("variants"):
        Settings(variants=0)
    edit(coco, lambda content: content["images"][0].update(file_name="../../secret.jpg"))
    with refused("secret.jpg", "leads out"):
        build(coco, tmp_path / "set")
    edit(coco, lambda content: content["images"][0].update(file_name=300 * "x"))
    with refused("instances_made_up.json", "255 bytes"):
        build(coco, tmp_path / "set")
    edit(coco, lambda content: content.pop("categories"))
    with refused("instances_made_up.json", "not COCO"):
        build(coco, tmp_path / "set")
    (coco / "annotations/instances_made_up.json").write_text("[1, 2")
    with refused("not COCO"):
        build(coco, tmp_path / "set")
    (coco / "annotations/instances_made_up.json").unlink()
    with refused("no annotations"):
        build(coco, tmp_path / "set")


def test_ids_may_be_text_but_not_negative_or_doubled(coco, refused):
    edit(coco, lambda content: [image.update(id=str(image["id"])) for image in content["images"]])
    assert len(read_objects(coco)) == 8
    edit(coco, lambda content: content["annotations"][1].update(id=101))
    with refused("two objects"):
        read_objects(coco)
    edit(coco, lambda content: content["annotations"][1].update(id=-3))
    with refused("negative"):
        read_objects(coco)


@pytest.mark.parametrize(
    "changes", [{"iscrowd": 1}, {"segmentation": {"counts": [1], "size": [72, 96]}}, {"segmentation": [[1.0, 2.0]]}]
)
def test_objects_that_cannot_be_used_are_left_out(tmp_path, refused, changes):
    write_coco(tmp_path / "coco", **changes)
    with refused("none of the photographs"):
        read_objects(tmp_path / "coco")


def test_command(coco, tmp_path, capsys):
    out = tmp_path / "own"
    command = ["data", "prepare", "coco-mini", "--source", str(coco), "--out", str(out), "--size", "32"]
    assert main(command) == 0
    made = hashes(out)
    assert main(command) == 0 and hashes(out) == made  # there already: used as it is
    assert "composites at 32 px" in capsys.readouterr().out
    assert main([*command, "--seed", "1"]) == 2
    assert "made otherwise" in capsys.readouterr().err


def blobs(coco) -> None:
    """`photograph` makes pictures that are alike at 16 px: these are not."""
    for number in range(1, 9):
        cells = np.random.default_rng(number).integers(60, 200, (5, 5, 3), np.uint8)
        Image.fromarray(cells).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(coco / f"images/{number:06d}.jpg")


def test_nothing_near_a_test_photograph_is_used(coco, tmp_path, capsys):
    blobs(coco)
    tests, more = tmp_path / "tests", tmp_path / "more"
    for folder, numbers in ((tests, (3, 5)), (more / "a", range(1, 9)), (more / "b", (5,))):
        folder.mkdir(parents=True)
        for number in numbers:
            squeezed = Image.open(coco / f"images/{number:06d}.jpg").resize((60, 60)).transpose(Image.FLIP_LEFT_RIGHT)
            squeezed.save(folder / f"{number}.jpg", quality=60)
    out = tmp_path / "set"
    command = ["data", "prepare", "coco-mini", "--source", str(coco), "--out", str(out), "--size", "32",
               "--apart", str(tests), "--unlabelled", str(more)]  # fmt: skip
    assert main(command) == 0
    manifest = pd.read_csv(out / "manifest.csv")
    assert not {"c3", "c5"} & set(manifest["photograph"]) and not {3, 5} & set(manifest["reference"])
    assert "near-duplicate of a test,2" in (out / "rejected.csv").read_text()
    tested = {f"{photo[1:]}.jpg" for photo in manifest["photograph"][manifest["split"] == "test"]}
    linked = {path.name.split("-", 1)[1] for path in (out / "unlabelled").iterdir()}
    assert linked == {f"{n}.jpg" for n in range(1, 9)} - {"3.jpg", "5.jpg"} - tested
    assert verify(out)[1] == []
    assert main(command) == 0 and main(command[:-2]) == 2  # the same again; other photographs for LEMaRT
    assert "made otherwise" in capsys.readouterr().err
    (tests / "3.jpg").unlink()
    assert main(command) == 2  # other pictures in the folder of the same name


def test_a_folder_without_pictures(coco, tmp_path, refused):
    with refused("nowhere", "no pictures"):
        build(coco, tmp_path / "set", apart=[tmp_path / "nowhere"])
    with refused("annotations", "no pictures"):
        build(coco, tmp_path / "set", unlabelled=coco / "annotations")
    assert not (tmp_path / "set").exists()

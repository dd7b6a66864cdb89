"""`hl.harmonize` and what it rests on: colour maps that fit any size, pictures of any kind, the mask's own shapes."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

import harmonylib as hl
from harmonylib import colour_maps, evaluation, fullres, picture_masks, pictures, sixteen_bits
from harmonylib.data.layout import read_entries
from harmonylib.errors import HarmonyError
from harmonylib.models import Harmonizer

HEIGHT, WIDTH = 90, 130


class Warmer(Harmonizer):
    """A network whose answer is known: one affine change of the object's colours."""

    size = 64
    matrix = torch.tensor([[0.9, 0.1, 0.0], [0.05, 0.8, 0.0], [0.0, 0.1, 0.7]])
    offset = torch.tensor([0.06, 0.02, -0.03])

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def predict(self, image, mask):
        changed = torch.einsum("ij,bjhw->bihw", self.matrix, image) + self.offset[:, None, None]
        return image + mask * (changed - image)


@pytest.fixture
def composite():
    """Smooth colours with texture, (90, 130, 3) uint8, in the middle of the range: nothing clips."""
    rng = np.random.default_rng(0)
    ramps = np.stack(np.meshgrid(np.linspace(60, 180, WIDTH), np.linspace(70, 170, HEIGHT)), -1)
    picture = np.dstack([ramps, ramps.mean(2)[:, ::-1]]) + rng.normal(0, 8, (HEIGHT, WIDTH, 3))
    return picture.clip(0, 255).round().astype(np.uint8)


@pytest.fixture
def mask():
    """A disc with a soft edge, (90, 130) float32."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return (30 - np.hypot(y - 45, x - 60)).clip(0, 1).astype(np.float32)


def expected(picture, mask, strength=1.0):
    unit = picture / np.float64(np.iinfo(picture.dtype).max)
    changed = unit @ Warmer.matrix.numpy().T + Warmer.offset.numpy()
    return (unit + strength * mask[..., None] * (changed - unit)).clip(0, 1) * np.iinfo(picture.dtype).max


class TestColourMaps:
    def test_an_affine_change_is_found_again(self):
        g = torch.Generator().manual_seed(1)
        image, mask = torch.rand(2, 3, 64, 64, generator=g), torch.zeros(2, 1, 64, 64)
        mask[0, :, 10:40, 20:60], mask[1, :, :, :8] = 1, 1
        output = Warmer().predict(image, mask)
        found = colour_maps.fit(image, output, mask)
        assert found.shape == (2, 12, 16, 16)
        torch.testing.assert_close(colour_maps.apply(found, image, mask), output, atol=2e-3, rtol=0)

    def test_a_change_that_differs_from_place_to_place(self):
        image, mask = torch.full((1, 3, 64, 64), 0.5), torch.ones(1, 1, 64, 64)
        change = torch.linspace(-0.2, 0.2, 64).expand(1, 3, 64, 64)
        found = colour_maps.apply(colour_maps.fit(image, image + change, mask), image, mask)
        inside = slice(8, 56)
        assert (found - image - change)[..., inside].abs().max() < 0.01

    def test_one_colour_makes_no_wild_matrix(self):
        image, mask = torch.full((1, 3, 32, 32), 0.3), torch.zeros(1, 1, 32, 32)
        mask[..., 8:16, 8:16] = 1
        found = colour_maps.fit(image, image + 0.1, mask)
        assert found.abs().max() < 0.2

    def test_an_empty_mask_changes_nothing(self):
        image = torch.rand(1, 3, 32, 32)
        assert colour_maps.fit(image, image + 0.1, torch.zeros(1, 1, 32, 32)).abs().max() == 0

    def test_rows_are_parts_of_the_whole(self):
        maps, image, mask = torch.randn(1, 12, 5, 7), torch.rand(1, 3, 40, 50), torch.rand(1, 1, 40, 50)
        whole = colour_maps.apply(maps, image, mask)
        for rows in (slice(0, 13), slice(13, 40)):
            part = colour_maps.apply(maps, image[:, :, rows], mask[:, :, rows], rows, 40)
            torch.testing.assert_close(part, whole[:, :, rows])


class TestArrays:
    def test_the_object_is_changed_as_the_network_would(self, composite, mask):
        found = hl.harmonize(composite, mask, Warmer())
        assert found.dtype == np.uint8 and found.shape == composite.shape
        assert np.abs(found - expected(composite, mask)).max() < 2

    def test_the_background_keeps_its_bits(self, composite, mask):
        for picture in (composite, composite.astype(np.uint16) * 257 + 3, (composite / 255).astype(np.float64)):
            found = hl.harmonize(picture, mask, Warmer())
            assert found.dtype == picture.dtype
            np.testing.assert_array_equal(found[mask == 0], picture[mask == 0])
            assert (found[mask == 1] != picture[mask == 1]).any(1).mean() > 0.9

    def test_sixteen_bits_are_computed_as_such(self, composite, mask):
        deep = composite.astype(np.uint16) * 257 + np.random.default_rng(1).integers(-60, 60, composite.shape).astype(
            np.uint16
        )
        found = hl.harmonize(deep, mask, Warmer())
        assert np.abs(found - expected(deep, mask)).max() < 600  # of 65,535: as near as the map's fit
        assert len(np.unique(found[mask == 1])) > 2000

    @pytest.mark.parametrize("kind", [bool, np.uint8, np.uint16, np.float64])
    def test_masks_of_any_type(self, composite, mask, kind):
        hard = mask > 0.5
        given = hard if kind is bool else (hard * (1 if kind is np.float64 else np.iinfo(kind).max)).astype(kind)
        np.testing.assert_array_equal(hl.harmonize(composite, given, Warmer()), hl.harmonize(composite, hard, Warmer()))

    def test_grey_and_alpha(self, composite, mask):
        grey = composite.mean(2).astype(np.uint8)
        found = hl.harmonize(grey, mask, Warmer())
        assert found.shape == grey.shape and (found[mask == 0] == grey[mask == 0]).all() and (found != grey).any()
        alpha = np.full((HEIGHT, WIDTH), 77, np.uint8)
        found = hl.harmonize(np.dstack([composite, alpha]), mask, Warmer())
        np.testing.assert_array_equal(found, np.dstack([hl.harmonize(composite, mask, Warmer()), alpha]))

    def test_strength(self, composite, mask):
        np.testing.assert_array_equal(hl.harmonize(composite, mask, Warmer(), strength=0), composite)
        half = hl.harmonize(composite, mask, Warmer(), strength=0.5)
        assert np.abs(half - expected(composite, mask, 0.5)).max() < 2

    def test_texture_stays(self, composite, mask):
        """What is left of the object's detail by the same network, its output scaled up instead, is far less."""
        large = np.asarray(Image.fromarray(composite).resize((WIDTH * 6, HEIGHT * 6))).astype(np.int16)
        large = (large + np.random.default_rng(0).normal(0, 12, large.shape)).clip(0, 255).astype(np.uint8)
        wide = np.asarray(Image.fromarray(mask).resize((WIDTH * 6, HEIGHT * 6), Image.Resampling.BILINEAR))
        found = hl.harmonize(large, wide, Warmer())
        inside = wide[1:, 1:] == 1
        detail = [np.diff(p.astype(float) @ [1, 1, 1], axis=0)[:, 1:][inside].std() for p in (large, found)]
        wanted = np.diff(expected(large, wide) @ [1, 1, 1], axis=0)[:, 1:][inside].std()
        assert detail[1] == pytest.approx(wanted, rel=0.02)

    @pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 5), (2000, 3)])
    def test_any_size(self, size):
        picture = np.full((*size, 3), 90, np.uint8)
        mask = np.zeros(size, np.float32)
        if size == (1, 1):
            with pytest.raises(HarmonyError, match="empty"):
                hl.harmonize(picture, mask, Warmer())
            return
        mask[:1, :1] = 1
        assert (hl.harmonize(picture, mask, Warmer())[0, 0] != 90).any()

    @pytest.mark.parametrize("model", ["identity", "histogram", "reinhard"])
    def test_statistics_alone(self, composite, mask, model):
        hard = (mask > 0.5).astype(np.float32)
        found = hl.harmonize(composite, hard, model)
        np.testing.assert_array_equal(found, hl.baselines.BASELINES[model](composite, hard > 0))
        deep = hl.harmonize(composite.astype(np.uint16) * 257, hard, model)
        np.testing.assert_array_equal(deep, found.astype(np.uint16) * 257)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda c, m: (c[:-1], m), "same size"),
            (lambda c, m: (c, 0 * m), "empty"),
            (lambda c, m: (c, 0 * m + 1), "whole picture"),
            (lambda c, m: (c, m * 2), "between 0 and 1"),
            (lambda c, m: (c, m * np.nan), "between 0 and 1"),
            (lambda c, m: (c.astype(np.int32), m), "type int32"),
            (lambda c, m: (c.astype(np.float32), m), "between 0 and 1"),
            (lambda c, m: (c[..., :2], m), "shape"),
            (lambda c, m: (c[:0], m[:0]), "shape"),
        ],
    )
    def test_bad_input(self, composite, mask, change, words):
        with pytest.raises(HarmonyError, match=words):
            hl.harmonize(*change(composite, mask), Warmer())

    def test_bad_models(self, composite, mask, tmp_path):
        with pytest.raises(HarmonyError, match="neither a checkpoint nor one of"):
            hl.harmonize(composite, mask, tmp_path / "none.pt")
        with pytest.raises(HarmonyError, match="strength"):
            hl.harmonize(composite, mask, Warmer(), strength=3)


def saved(image, kind, **options):
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


class TestPictures:
    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
    def test_every_mode(self, composite, mask, mode):
        image = Image.fromarray(composite)
        image = Image.fromarray(composite[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
        found = hl.harmonize(image, Image.fromarray((255 * mask).astype(np.uint8)), Warmer())
        assert found.mode == {"1": "L", "P": "RGB", "YCbCr": "RGB"}.get(mode, mode) and found.size == image.size
        before, after = (np.asarray(i.convert(found.mode)) for i in (image, found))
        np.testing.assert_array_equal(after[mask == 0], before[mask == 0])
        assert (after[mask == 1] != before[mask == 1]).any()

    @pytest.mark.parametrize("ending", [".png", ".tif", ".webp"])
    def test_written_and_read_again(self, composite, tmp_path, ending):
        picture = pictures.of(Image.fromarray(np.dstack([composite, composite[..., 0]])))
        pictures.write(picture, tmp_path / f"a{ending}")
        again = pictures.read(tmp_path / f"a{ending}")
        np.testing.assert_array_equal(again.pixels, picture.pixels)
        np.testing.assert_array_equal(again.alpha, picture.alpha)

    @pytest.mark.parametrize("ending", [".png", ".tif"])
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_sixteen_bits_written_and_read_again(self, tmp_path, ending, channels):
        pixels = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, channels), np.uint16)
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        content = sixteen_bits.png(pixels, profile, None) if ending == ".png" else sixteen_bits.tiff(pixels, profile)
        (tmp_path / f"a{ending}").write_bytes(content)
        picture = pictures.read(tmp_path / f"a{ending}")
        grey = channels == 1 or (channels == 2 and ending == ".png")  # a TIFF has no grey with alpha
        colours = pixels[..., 0] if grey else pixels[..., :3] if channels > 2 else pixels[..., [0, 0, 0]]
        np.testing.assert_array_equal(picture.pixels, colours)
        assert (picture.alpha is not None) == (channels in (2, 4)) and picture.kept["icc_profile"] == profile
        pictures.write(picture, tmp_path / f"b{ending}")
        again = pictures.read(tmp_path / f"b{ending}")
        np.testing.assert_array_equal(again.pixels, picture.pixels)
        assert again.kept["icc_profile"] == profile

    def test_jpeg_profile_exif_and_tables_are_kept(self, composite, mask, tmp_path):
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        exif = Image.Exif()
        exif[271], exif[274] = "A camera", 6
        turned = Image.fromarray(np.rot90(composite).copy())
        (tmp_path / "a.jpg").write_bytes(
            saved(turned, "JPEG", quality=71, icc_profile=profile, exif=exif, dpi=(300, 300))
        )
        picture = pictures.read(tmp_path / "a.jpg")
        assert picture.size == (WIDTH, HEIGHT)
        pictures.write(picture.with_rgb(fullres.changer(Warmer())(picture.rgb, mask)), tmp_path / "b.jpg")
        with Image.open(tmp_path / "a.jpg") as first, Image.open(tmp_path / "b.jpg") as second:
            assert second.size == (WIDTH, HEIGHT) and second.quantization == first.quantization
            assert second.info["icc_profile"] == profile and second.info["dpi"] == (300, 300)
            assert second.getexif()[271] == "A camera" and second.getexif().get(274, 1) == 1

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_every_orientation(self, composite, tmp_path, orientation):
        turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # of Pillow's Transpose, that undo it
        image = Image.fromarray(composite)
        stored = image.transpose(Image.Transpose(turns[orientation])) if orientation > 1 else image
        exif = Image.Exif()
        exif[274] = orientation
        (tmp_path / "a.png").write_bytes(saved(stored, "PNG", exif=exif))
        np.testing.assert_array_equal(pictures.read(tmp_path / "a.png").pixels, composite)

    def test_inks_of_the_background_are_kept(self, composite, mask, tmp_path):
        image = Image.fromarray(composite).convert("CMYK")
        image.putpixel((0, 0), (10, 20, 30, 40))
        (tmp_path / "a.tif").write_bytes(saved(image, "TIFF"))
        picture = pictures.read(tmp_path / "a.tif")
        pictures.write(picture.with_rgb(fullres.changer(Warmer())(picture.rgb, mask)), tmp_path / "b.tif")
        with Image.open(tmp_path / "b.tif") as found:
            assert found.mode == "CMYK"
            np.testing.assert_array_equal(np.asarray(found)[mask == 0], np.asarray(image)[mask == 0])

    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("a.png", b"", "cannot be read"),
            ("a.png", b"no picture at all", "format is not known"),
            ("a.jpg", saved(Image.new("RGB", (64, 64), "red"), "JPEG")[:400], "cannot be read"),
            ("a.png", saved(Image.effect_noise((64, 64), 50), "PNG")[:900], "cannot be read"),
            (
                "a.gif",
                saved(Image.new("L", (9, 9)), "GIF", save_all=True, append_images=[Image.new("L", (9, 9), 255)]),
                "several frames",
            ),
            ("a.tif", saved(Image.new("F", (9, 9)), "TIFF"), "mode F"),
            ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "format is not known"),
        ],
    )
    def test_what_cannot_be_read(self, tmp_path, name, content, words):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(HarmonyError, match=words) as error:
            pictures.read(tmp_path / name)
        assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)

    @pytest.mark.parametrize(
        ("ending", "words"), [(".jpg", "16 bits"), (".webp", "16 bits"), (".gif", "cannot be written")]
    )
    def test_what_cannot_be_written(self, tmp_path, ending, words):
        picture = pictures.Picture(np.zeros((4, 4, 3), np.uint16))
        with pytest.raises(HarmonyError, match=words):
            pictures.write(picture, tmp_path / f"a{ending}")
        with pytest.raises(HarmonyError, match="alpha"):
            pictures.write(pictures.of(Image.new("RGBA", (4, 4))), tmp_path / "a.jpg")
        assert list(tmp_path.iterdir()) == []


class TestMasks:
    @pytest.fixture
    def picture(self, composite):
        return pictures.of(Image.fromarray(composite))

    def test_polygons_of_every_kind(self, picture, tmp_path):
        corners = [[20.0, 10.0], [60.0, 10.0], [60.0, 50.0], [20.0, 50.0]]
        flat = [n for point in corners for n in point]
        kinds = [corners, [corners], [flat], flat, {"polygons": [corners]}, {"segmentation": [flat]},
                 {"shapes": [{"points": corners}]}]  # fmt: skip
        for kind in kinds:
            (tmp_path / "m.json").write_text(json.dumps(kind))
            mask = picture_masks.read(tmp_path / "m.json", picture)
            assert mask.shape == (HEIGHT, WIDTH) and mask.sum() == pytest.approx(1600, rel=0.03), kind
            assert mask[30, 40] == 1 and mask[5, 40] == 0

    def test_a_tall_polygon_is_drawn_in_strips(self):
        mask = picture_masks._drawn([np.array([[1, 0], [4, 0], [4, 700], [1, 700]])], (6, 700))
        np.testing.assert_allclose(mask[:, 2:3], 1)
        np.testing.assert_allclose(mask[:, 5], 0)

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "{}",
            "[]",
            "[1, 2, 3]",
            '{"polygons": [[[1, 2], [3, 4]]]}',
            '{"polygons": 3}',
            "[[[1, NaN], [2, 3], [4, 5]]]",
            "[" * 5000,
        ],
    )
    def test_no_polygons(self, picture, tmp_path, content):
        (tmp_path / "m.json").write_text(content)
        with pytest.raises(HarmonyError, match="no polygons"):
            picture_masks.read(tmp_path / "m.json", picture)

    def test_alpha_of_the_mask_and_of_the_picture(self, composite, mask, tmp_path):
        levels = (255 * mask).astype(np.uint8)
        cut_out = Image.fromarray(np.dstack([composite, levels]))
        cut_out.save(tmp_path / "m.png")
        found = [
            picture_masks.read(tmp_path / "m.png", pictures.of(Image.fromarray(composite))),
            picture_masks.read("alpha", pictures.of(cut_out)),
        ]
        for levels_found in found:
            np.testing.assert_array_equal(levels_found, levels / np.float32(255))
        with pytest.raises(HarmonyError, match="no alpha"):
            picture_masks.read("alpha", pictures.of(Image.fromarray(composite)))

    def test_noise_of_a_jpeg_mask_is_no_object(self, picture, mask, tmp_path):
        Image.fromarray((255 * (mask > 0.5)).astype(np.uint8)).save(tmp_path / "m.jpg", quality=60)
        found = picture_masks.read(tmp_path / "m.jpg", picture)
        assert (found[:, 110:] == 0).all() and found[45, 60] == 1

    def test_a_mask_drawn_on_the_stored_pixels(self, composite, mask, tmp_path):
        exif = Image.Exif()
        exif[274] = 6
        (tmp_path / "a.png").write_bytes(saved(Image.fromarray(np.rot90(composite).copy()), "PNG", exif=exif))
        stored = np.rot90((255 * mask).astype(np.uint8)).copy()
        Image.fromarray(stored).save(tmp_path / "m.png")
        found = picture_masks.read(tmp_path / "m.png", pictures.read(tmp_path / "a.png"))
        np.testing.assert_array_equal(found, (255 * mask).astype(np.uint8) / np.float32(255))


def test_scores_under_fullres_are_those_of_harmonize(tiny_set, tmp_path):
    """What `evaluate` says of a network at full resolution holds for the files that `harmonize` writes."""
    entries = read_entries(tiny_set, "all", "test")[:6]
    for entry in entries:
        picture = pictures.read(entry.composite)
        mask = np.asarray(Image.open(entry.mask).convert("L")) / np.float32(255)
        pictures.write(picture.with_rgb(hl.harmonize(picture.rgb, mask, Warmer())), tmp_path / f"{entry.name}.png")
    written = evaluation.evaluate_outputs(tmp_path, entries, "fullres")
    scored = evaluation.evaluate(evaluation.network(Warmer()), entries, "fullres")
    np.testing.assert_allclose(scored["fmse"], written["fmse"], rtol=0.01)
    assert list(scored["name"]) == list(written["name"])


def test_a_change_that_leaves_the_range_is_drawn_in():
    """Of an object three times as bright hardly anything is white; a change that fits stays as it is."""
    ramp = torch.linspace(0.2, 0.6, 64).expand(1, 3, 64, 64).clone()
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 8:56] = 1
    for factor, fits in ((3.0, False), (1.2, True)):
        found = torch.zeros(1, 12, 2, 2)
        found.view(1, 3, 4, 2, 2)[:, :, :3] = (factor - 1) * torch.eye(3)[..., None, None]
        kept = colour_maps.kept_in_range(found, ramp, mask)
        changed = colour_maps.apply(kept, ramp, mask)[:, :, mask[0, 0] > 0]
        assert ((changed > 1) | (changed < 0)).float().mean() < 0.03
        assert torch.allclose(kept, found, atol=1e-5) == fits
        assert changed.max() - changed.min() > 0.3

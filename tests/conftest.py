"""What the tests share: a small set in iHarmony4's layout, and folders that keep the checkout clean."""

import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harmonylib.data.layout import FOLDERS, SUBSETS
from harmonylib.errors import HarmonyError

PHOTOGRAPHS = 12  # of each subset; the first four are the test list
TESTED = 4
VARIANTS = 2
WIDTH, HEIGHT = 48, 40


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Data and results of every test go to its own folder, and no profile comes in from outside."""
    monkeypatch.setenv("HARMONY_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HARMONY_RESULTS", str(tmp_path / "results"))
    monkeypatch.delenv("HARMONY_PROFILE", raising=False)


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory) -> Path:
    """Four subsets of 12 photographs of 48x40 px, one object and two composites each. For reading only."""
    return write_set(tmp_path_factory.mktemp("sets") / "tiny")


@pytest.fixture
def own_set(tiny_set, tmp_path) -> Path:
    """HCOCO of the small set alone, in a copy that a test may damage."""
    root = tmp_path / "own"
    shutil.copytree(tiny_set / "HCOCO", root / "HCOCO")
    for split in ("train", "test"):
        lines = (tiny_set / f"IHD_{split}.txt").read_text().splitlines(keepends=True)
        (root / f"IHD_{split}.txt").write_text("".join(line for line in lines if line.startswith("HCOCO/")))
    return root


@pytest.fixture
def refused():
    """``with refused("file", "reason"): ...`` expects a HarmonyError of one line that has these words in it."""

    @contextmanager
    def expect(*words):
        with pytest.raises(HarmonyError) as told:
            yield
        message = str(told.value)
        assert message and "\n" not in message
        for word in words:
            assert str(word) in message

    return expect


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window; tests that need it are left out where it is not installed."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "window-size=1000,900"):
        options.add_argument(f"--{argument}")
    opened = webdriver.Chrome(service=webdriver.ChromeService(driver), options=options)
    yield opened
    opened.quit()


def write_set(root: Path) -> Path:
    lists = {"train": [], "test": []}
    for number, subset in enumerate(SUBSETS):
        for folder in FOLDERS:
            (root / subset / folder).mkdir(parents=True)
        own = {"train": [], "test": []}
        for index in range(PHOTOGRAPHS):
            rng = np.random.default_rng([number, index])
            names = write_photograph(root / subset, photo_name(subset, index), rng)
            own["test" if index < TESTED else "train"] += names
        for split, names in own.items():
            (root / subset / f"{subset}_{split}.txt").write_text("".join(f"{name}.jpg\n" for name in names))
            lists[split] += [f"{subset}/composite_images/{name}.jpg\n" for name in names]
    for split, lines in lists.items():
        (root / f"IHD_{split}.txt").write_text("".join(lines))
    return root


def photo_name(subset: str, index: int) -> str:
    """Scenes in HCOCO; in Hday2night two views of each thing."""
    return {
        "HCOCO": f"cscene{index:04d}",
        "HAdobe5k": f"a{index:04d}",
        "HFlickr": f"f{100 + index}",
        "Hday2night": f"d{index // 2}-{index % 2 + 1}",
    }[subset]


def write_photograph(folder: Path, photo: str, rng: np.random.Generator) -> list[str]:
    """One smooth picture, a soft ellipse as its object, and composites whose object has another gain and offset."""
    coarse = Image.fromarray(rng.integers(60, 190, (5, 6, 3), dtype=np.uint8))
    real = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), float)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    centre, radius = rng.uniform((15, 17), (25, 31)), rng.uniform(7, 12, 2)
    distance = np.hypot((y - centre[0]) / radius[0], (x - centre[1]) / radius[1])
    mask = np.clip((1.1 - distance) * 5, 0, 1)[..., None]
    save(real, folder / "real_images" / f"{photo}.jpg")
    Image.fromarray((255 * mask[..., 0]).astype(np.uint8)).save(folder / "masks" / f"{photo}_1.png")
    names = [f"{photo}_1_{variant}" for variant in range(1, VARIANTS + 1)]
    for name in names:
        changed = real * rng.uniform(0.75, 1.1, 3) + rng.uniform(-30, 15, 3)
        save(mask * changed + (1 - mask) * real, folder / "composite_images" / f"{name}.jpg")
    return names


def save(picture: np.ndarray, path: Path) -> None:
    Image.fromarray(picture.clip(0, 255).round().astype(np.uint8)).save(path, quality=95, subsampling=0)

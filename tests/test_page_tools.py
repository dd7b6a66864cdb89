"""What a reader does in notebook 07's page, and what of it reaches Python. The tools are driven in a real browser."""

import base64
import json
import sys
import types

import nbformat
import numpy as np
import pandas as pd
import pytest

from harmonylib import page_tools, picture_masks, pictures, scrub, slider, votes, your_own
from harmonylib.page_tools import Answer
from harmonylib.pictures import Picture

KEY = "harmony-test"
SQUARE = '{"polygons": [[[20, 10], [60, 10], [60, 40], [20, 40]]]}'
CSV = """winner,loser,picture,tie,sitting
"S2AM","identity","one","","aa"
"identity","S2AM","two","yes","aa"
"S2AM","Reinhard","two","","aa"
"""


@pytest.fixture
def composite() -> your_own.Composite:
    pixels = np.random.default_rng(0).integers(0, 255, (50, 80, 3), dtype=np.uint8)
    return your_own.Composite(your_own.Path("picture.png"), Picture(pixels))


def test_what_was_drawn_is_the_mask(composite):
    mask = your_own.mask_of(composite, Answer(SQUARE))
    assert mask.shape == (50, 80)
    assert mask.dtype == np.float32
    assert mask[12:38, 22:58].min() == 1
    assert mask.mean() == pytest.approx(40 * 30 / 4000, abs=0.02)


def test_an_outline_may_be_pasted_and_what_is_drawn_comes_before_it(composite):
    pasted = your_own.mask_of(composite, Answer(), " " + SQUARE)
    assert (pasted == your_own.mask_of(composite, Answer(SQUARE), "no_such_file.png")).all()


def test_without_a_mask_the_reader_is_told_to_draw(composite, refused):
    with refused("mask", "draw the object"):
        your_own.mask_of(composite, Answer())
    with refused("the outline", "three corners"):
        your_own.mask_of(composite, Answer('{"polygons": [[[1, 2], [3, 4]]]}'))
    with refused("the outline", "empty"):
        your_own.mask_of(composite, Answer('{"polygons": [[[1, 2], [1, 2], [1, 2]]]}'))
    with refused("upload", "Colab"):
        your_own.opened("upload")


def test_the_example_falls_back_on_its_own_mask():
    example = your_own.example()
    mask = your_own.mask_of(example, Answer())
    assert (mask == example.mask).all()
    assert (example.picture.rgb == example.target)[mask == 0].all()
    assert np.abs(example.picture.rgb.astype(float) - example.target)[mask > 0].mean() > 10


def test_the_result_keeps_the_format_where_it_can(composite, tmp_path):
    for name, written in {"a.JPG": "a_harmonized.JPG", "b.gif": "b_harmonized.png", "c": "c_harmonized.png"}.items():
        assert your_own.result_file(composite._replace(file=your_own.Path(name)), tmp_path).name == written


def test_methods_at_hand(tmp_path, capsys):
    assert list(your_own.methods(tmp_path))[:3] == ["identity", "Reinhard", "histogram"]
    assert "notebook 03" in capsys.readouterr().out
    (tmp_path / "runs" / "unet" / "seed0").mkdir(parents=True)
    (tmp_path / "runs" / "unet" / "seed0" / "checkpoint.pt").touch()
    assert your_own.methods(tmp_path)["U-Net"] == str(tmp_path / "runs" / "unet" / "seed0")
    assert "S2AM: none" in capsys.readouterr().out
    assert list(your_own.methods(tmp_path).items())[-1] == (your_own.SHIPPED, None)


def test_every_method_is_compared_with_others_on_every_picture():
    listed = page_tools.ballots({"one": ["a", "b", "c"], "two": ["a", "b", "c"]})
    assert len(listed) == 6
    for picture in ("one", "two"):
        seen = [method for ballot in listed if ballot["picture"] == picture for method in ballot["methods"]]
        assert sorted(seen) == ["a", "a", "b", "b", "c", "c"]
    assert all(a != b for a, b in (ballot["methods"] for ballot in listed))


def test_votes_of_the_tool_are_scored(tmp_path):
    file = tmp_path / "new" / "votes.csv"
    votes.keep("", file)
    assert not file.exists()
    votes.keep(CSV, file)
    votes.keep(CSV.replace('"aa"', '"bb"'), file)
    votes.keep(CSV, file)  # the same sitting again
    read = votes.read(file)
    assert len(read) == 6
    table = votes.scores(read).set_index("method")
    assert table["votes"].to_dict() == {"S2AM": 6, "identity": 4, "Reinhard": 2}
    assert table.loc["identity", "won"] == 0.25  # two ties of four votes
    assert np.isfinite(table[["low", "high"]]).all(axis=None)


def test_a_tie_is_half_a_win_for_each():
    tie = pd.DataFrame({"winner": ["a", "a"], "loser": ["b", "b"], "tie": ["yes", "yes"]})
    assert votes.scores(tie)["score"].tolist() == pytest.approx([0, 0], abs=1e-6)
    assert abs(votes.scores(tie.assign(tie=""))["score"]).min() > 1


def test_html_of_a_slider_is_escaped():
    picture = np.zeros((4, 6, 3), np.uint8)
    page = slider.slider(picture, picture, ("<b>", "it's"), strength=True)
    assert "<b>" not in page
    assert "it&#x27;s" in page
    captions = {"<i>": "<u>"}
    assert not {"<i>", "<u>"} & set(slider.gallery(picture, {"<i>": picture}, captions).replace("><", ">\n<").split())
    deep = slider.embedded(np.full((4, 6, 3), 40_000, np.uint16))
    assert deep == slider.embedded(np.full((4, 6, 3), 40_000 >> 8, np.uint8))


def test_data_cannot_leave_the_script():
    page = page_tools.page("vote_tool", {"ballots": [], "shown": {}, "sitting": "</script><b>"}, KEY)
    assert page.count("</script>") == 1


def test_an_executed_copy_keeps_the_tool_and_not_the_hidden_field(tmp_path):
    field = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": ""}
    outputs = [nbformat.v4.new_output("display_data", data) for data in (field, {"text/html": "the tool"})]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=outputs)])
    nbformat.write(notebook, tmp_path / "a.ipynb")
    scrub.scrub(str(tmp_path / "a.ipynb"), str(tmp_path / "b.ipynb"))
    (cell,) = nbformat.read(tmp_path / "b.ipynb", 4).cells
    assert [output.data for output in cell.outputs] == [{"text/html": "the tool"}]


def test_in_colab(monkeypatch, tmp_path):
    """Callbacks bring the answer, and Colab's own dialogs move the files."""
    callbacks, handed = {}, []
    colab = types.ModuleType("google.colab")
    colab.output = types.SimpleNamespace(register_callback=callbacks.__setitem__)
    colab.files = types.SimpleNamespace(upload=lambda: {str(tmp_path / "a.png"): b""}, download=handed.append)
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    pixels = np.full((30, 40, 3), 7, np.uint8)
    answer = page_tools.draw(pixels)
    ((key, receive),) = callbacks.items()
    receive(SQUARE)
    assert key.startswith("harmony-")
    assert answer.text == SQUARE
    pictures.write(Picture(pixels), tmp_path / "a.png")
    assert (your_own.opened("upload").picture.rgb == pixels).all()
    your_own.download(tmp_path / "a.png")
    assert handed == [str(tmp_path / "a.png")]


def test_a_download_is_a_link_in_the_page(tmp_path, monkeypatch):
    file = tmp_path / "it's.png"
    pictures.write(Picture(np.full((30, 40, 3), 7, np.uint8)), file)
    link = your_own.download(file).data
    assert "it&#x27;s.png" in link
    assert base64.b64decode(link.split("base64,")[1].split("'")[0]) == file.read_bytes()
    monkeypatch.setattr(your_own, "IN_THE_PAGE", 10)
    assert "base64" not in your_own.download(file).data


@pytest.fixture
def tool(browser, tmp_path):
    """Opens a tool beside the text field that ipywidgets would show; returns how to read that field."""

    def show(html: str, listening: bool = True):
        field = f"<div class='{KEY}' style='display: none'><textarea></textarea></div>" if listening else ""
        (tmp_path / "page.html").write_text(f"<meta charset='utf-8'>{field}{html}", encoding="utf-8")
        browser.get((tmp_path / "page.html").as_uri())
        return lambda: browser.execute_script(f"return document.querySelector('.{KEY} textarea').value")

    return show


def polygon_page(width=400, height=300) -> str:
    picture = slider.embedded(np.full((height, width, 3), 90, np.uint8))
    return page_tools.page("polygon_tool", {"picture": picture, "width": width, "height": height}, KEY)


def click(browser, x: float, y: float, drag: tuple | None = None) -> None:
    """At a place in px of the picture; or drag what is there to another."""
    from selenium.webdriver import ActionChains

    box = browser.execute_script("return document.querySelector('svg').getBoundingClientRect().toJSON()")
    scale = box["width"] / 400

    def to(x, y):
        return round(box["x"] + x * scale), round(box["y"] + y * scale)

    chain = ActionChains(browser, duration=0)
    chain.w3c_actions.pointer_action.move_to_location(*to(x, y))
    chain.w3c_actions.pointer_action.pointer_down()
    if drag:
        chain.w3c_actions.pointer_action.move_to_location(*to(*drag))
    chain.w3c_actions.pointer_action.pointer_up()
    chain.perform()


def press(browser, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser, duration=0).send_keys(*keys).perform()


def test_drawing_with_the_mouse(tool, browser):
    sent = tool(polygon_page())
    for corner in ((100, 50), (300, 50), (300, 200)):
        click(browser, *corner)
    assert sent() == ""  # still open
    click(browser, 100, 200)
    click(browser, 102, 52)  # near the first corner
    (polygon,) = json.loads(sent())["polygons"]
    assert np.abs(np.array(polygon) - [[100, 50], [300, 50], [300, 200], [100, 200]]).max() < 1
    click(browser, 100, 50, drag=(50, 20))
    assert np.abs(np.array(json.loads(sent())["polygons"][0][0]) - [50, 20]).max() < 1
    browser.execute_script("return new Promise(done => setTimeout(done, 350))")
    mask = picture_masks.drawn(sent(), (400, 300))
    assert mask[100, 200] == 1
    assert mask[250, 200] == 0
    for corner in ((320, 220), (380, 220), (380, 280)):
        click(browser, *corner)
    browser.find_element("css selector", ".close").click()
    assert len(json.loads(sent())["polygons"]) == 2
    assert "Python has it" in browser.find_element("css selector", ".status").text
    browser.find_element("css selector", ".clear").click()
    assert sent() == ""


def test_drawing_with_the_keyboard(tool, browser):
    from selenium.webdriver import Keys

    sent = tool(polygon_page())
    browser.execute_script("document.querySelector('.stage').focus()")
    press(browser, Keys.ARROW_LEFT, " ", Keys.ARROW_UP, Keys.ARROW_UP, " ", *[Keys.ARROW_RIGHT] * 5, " ", " ")
    press(browser, Keys.BACKSPACE, Keys.ENTER)
    assert json.loads(sent())["polygons"] == [[[196, 150], [196, 142], [216, 142]]]
    press(browser, Keys.BACKSPACE)  # opens it again
    assert sent() == ""


def test_where_nobody_listens_the_text_is_there_to_copy(tool, browser):
    tool(polygon_page(), listening=False)
    for corner in ((100, 50), (300, 50), (300, 200)):
        click(browser, *corner)
    browser.find_element("css selector", ".close").click()
    field = browser.find_element("css selector", "details textarea")
    assert field.is_displayed()
    assert len(json.loads(field.get_attribute("value"))["polygons"][0]) == 3
    assert "MASK" in browser.find_element("css selector", ".status").text


def test_voting(tool, browser, tmp_path):
    from selenium.webdriver import Keys

    shown = {"p, 1": {m: slider.embedded(np.full((9, 12, 3), v, np.uint8)) for m, v in {"a": 9, "b": 99}.items()}}
    listed = [{"picture": "p, 1", "methods": ["a", "b"]}, {"picture": "p, 1", "methods": ["b", "a"]}]
    sent = tool(page_tools.page("vote_tool", {"ballots": listed * 2, "shown": shown, "sitting": "s"}, KEY))
    assert not {"a", "b"} & {i.get_attribute("alt") for i in browser.find_elements("css selector", ".choice img")}
    browser.find_element("css selector", ".choice .b").click()
    browser.execute_script("document.querySelector('.choice').focus()")
    press(browser, Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.BACKSPACE, Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    assert "Thank you" in browser.find_element("css selector", ".status").text
    votes.keep(sent(), tmp_path / "votes.csv")
    read = votes.read(tmp_path / "votes.csv")
    assert read["winner"].tolist() == ["b", "b", "a", "a"]
    assert read["tie"].tolist() == ["", "", "yes", ""]
    assert set(read["picture"]) == {"p, 1"}


def test_slider_and_knob(tool, browser):
    from selenium.webdriver import Keys

    black, white = (np.full((60, 400, 3), level, np.uint8) for level in (0, 255))
    tool(slider.slider(black, white, strength=True))
    after = browser.find_element("css selector", ".after")
    assert after.value_of_css_property("clip-path") == "inset(0px 0px 0px 50%)"
    assert after.value_of_css_property("opacity") == "1"
    browser.find_element("css selector", ".pair input").send_keys(Keys.END)
    assert after.value_of_css_property("clip-path") == "inset(0px 0px 0px 100%)"
    browser.find_element("css selector", ".knob label input").send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * 30)
    assert after.value_of_css_property("opacity") == "0.3"
    assert browser.find_element("css selector", ".knob output").text == "30 %"

"""report.html in a real browser: it opens from a file, asks for nothing, fits a phone, and its sliders move."""

import re
from pathlib import Path

import pytest

REPORT = Path(__file__).resolve().parent.parent / "results" / "quick" / "report.html"
ACROSS = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
SEEN = "return [...document.images].filter(image => !image.complete || !image.naturalWidth).length"
AT = "return getComputedStyle(arguments[0]).getPropertyValue('--at')"


@pytest.fixture(params=[(1400, 900), (420, 860)], ids=["desk", "phone"])
def page(browser, request):
    browser.set_window_size(*request.param)
    browser.get(REPORT.as_uri())
    return browser


def test_it_fits_and_every_picture_is_in_it(page):
    width, seen = page.execute_script(ACROSS)
    assert width <= seen
    assert page.execute_script("return document.images.length") > 40
    assert page.execute_script(SEEN) == 0
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_nothing_points_outside():
    text = REPORT.read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=['"](?!data:|#)""", text)


def test_sliders_by_keyboard(page):
    from selenium.webdriver import Keys

    pair = page.find_element("css selector", "#pictures ~ .row .pair")
    handle = pair.find_element("css selector", "input")
    assert handle.get_attribute("aria-label").startswith("composite or ")
    handle.send_keys(Keys.END)
    assert page.execute_script(AT, pair) == "100%"
    handle.send_keys(Keys.HOME)
    assert page.execute_script(AT, pair) == "0%"


@pytest.mark.parametrize("kind", ["mouse", "touch"])
def test_sliders_by_hand(page, kind):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    pair = page.find_elements("css selector", "#pictures ~ .row .pair")[1]
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", pair)
    box = page.execute_script("return arguments[0].getBoundingClientRect().toJSON()", pair)
    chain = ActionChains(page, duration=20)
    chain.w3c_actions = ActionBuilder(page, mouse=PointerInput(kind, kind), duration=20)
    pointer, y = chain.w3c_actions.pointer_action, round(box["y"] + box["height"] / 3)
    pointer.move_to_location(round(box["x"] + box["width"] / 2), y)
    pointer.pointer_down()
    pointer.move_to_location(round(box["x"] + 0.8 * box["width"]), y)
    pointer.pointer_up()
    chain.perform()
    at = float(page.execute_script(AT, pair).rstrip("%"))
    assert at == pytest.approx(80, abs=6)

"""The page in headless Chromium, as visitors use it, wide and on a phone; nothing is asked of any other machine."""

import json
import time

import numpy as np
import pytest
from PIL import Image

from tests.browser import BROWSER, Browser

pytest.importorskip("aiohttp")
demo_page = pytest.importorskip("tests.demo_page")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(BROWSER is None, reason="no Chromium")]

VIEW = "document.querySelector('kyvo-view')"
DRAWN = f"{VIEW}?.canvas?.width"
DATA = f"{VIEW}.data"
TOAST = "document.querySelector('.toast-body, .kyvo-notice')"


@pytest.fixture(scope="module")
def url():
    with demo_page.served() as found:
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(params=[1280, 390])
def page(browser, url, request):
    """The page just opened, in a window of a width."""
    browser.requests.clear(), browser.console.clear()
    browser.open(url, request.param)
    browser.wait(DRAWN)
    browser.wait("document.querySelector('.kyvo-table')")
    return browser


def tab(page, name):
    page.evaluate(f"[...document.querySelectorAll('[role=tab]')].find(one => one.innerText == '{name}').click()")


def picture(page):
    return page.evaluate("document.querySelector('#kyvo-picture img').src")


def painted(page):
    """How many of the view's pixels are neither clear nor gray."""
    return page.evaluate(
        f"(() => {{ const c = {VIEW}.canvas, d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "let n = 0; for (let i = 0; i < d.length; i += 4)"
        "{ const rgb = d.slice(i, i + 3); if (d[i + 3] > 200 && Math.max(...rgb) - Math.min(...rgb) > 40) n++; }"
        "return n; })()"
    )


def refused(page, words):
    """A message was shown, and has now been put away."""
    page.wait(f"{TOAST}?.innerText.includes({json.dumps(words)})")
    page.evaluate("document.querySelectorAll('.toast-close, .kyvo-notice').forEach(one => one.click())")
    page.wait(f"!{TOAST}")


def test_everything_in_turn(page, url):
    # What is picked is recognised and listed.
    first = picture(page)
    page.click("#kyvo-examples .gallery-item:nth-child(4) button")
    page.wait("document.querySelector('#kyvo-picture figcaption').innerText.startsWith('Example 4')")
    rows = "document.querySelectorAll('.kyvo-table tbody tr').length"
    assert page.evaluate(rows) == len(page.evaluate(DATA)["solids"])
    assert picture(page) != first
    # A scene is written by hand.
    red = {"size": "large", "color": "red", "material": "metal", "shape": "cube", "3d_coords": [0, 0, 0.7]}
    write_json(page, json.dumps({"objects": [red]}))
    page.wait(f"{DATA}.solids[0]?.name == 'large red metal cube'")
    assert page.evaluate("document.querySelector('#kyvo-picture .stale') !== null")
    assert painted(page) > 2000
    # The view is turned by mouse or finger and stays so.
    before = page.evaluate(f"{VIEW}.orbit.azimuth")
    (page.swipe if page.evaluate("innerWidth") < 500 else page.drag)("kyvo-view", 80, 0)
    turned = page.evaluate(f"{VIEW}.orbit.azimuth")
    assert turned < before - 0.1
    # An object is changed, added and drawn.
    tab(page, "Objects")
    page.type("input[aria-label='number input for x']", "1.5")
    page.wait(f"Math.abs({DATA}.solids[0].center[0] - 1.5) < 1e-6")
    page.evaluate("[...document.querySelectorAll('button')].find(one => one.innerText == 'Add an object').click()")
    page.wait(f"{DATA}.solids.length == 2 && {DATA}.selected == 1")
    assert page.evaluate(f"{VIEW}.orbit.azimuth") == turned
    old = picture(page)
    page.click("#kyvo-render")
    page.wait("document.querySelector('#kyvo-picture .stale') === null")
    assert picture(page) != old
    # An instruction is carried out.
    tab(page, "Instruct")
    page.type("#kyvo-instruct-text :is(input, textarea)", "Remove the red cube")
    page.click("#kyvo-instruct")
    page.wait("document.querySelectorAll('.kyvo-change img').length == 2")
    # A question is answered.
    tab(page, "Ask")
    page.type("#kyvo-ask-text :is(input, textarea)", "how many things are there")
    page.click("#kyvo-ask")
    page.wait("document.querySelector('.kyvo-answer small')?.innerText == 'how many things are there'")
    # Nothing is too wide, failed, or was asked of another machine.
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth")
    assert [one for one in page.requests if not one.startswith((url, "data:", "blob:"))] == []
    assert len(page.requests) > 10
    assert page.console == []


def write_json(page, text):
    tab(page, "Scene")
    if not page.evaluate("document.querySelector('#kyvo-json .cm-content')?.getClientRects().length > 0"):
        page.click("button.label-wrap")
    # Open and as the scene is: nothing comes in between.
    editor = "document.querySelector('#kyvo-json .cm-content')"
    page.wait(f"{editor}?.innerText.includes('objects')")
    time.sleep(0.4)
    page.click("#kyvo-json .cm-content")
    page.evaluate("document.execCommand('selectAll')")
    page.call("Input.insertText", text=text)
    page.wait(f"{editor}.innerText.trim() == {json.dumps(text)}")
    page.click("#kyvo-apply")


@pytest.mark.parametrize("page", [1280], indirect=True)
def test_bad_input_is_said_and_the_page_stays(page, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    (tmp_path / "no.png").write_text("no picture")
    Image.new("1", (9000, 9000)).save(tmp_path / "huge.png")
    (tmp_path / "heavy.png").write_bytes(b"0" * 12_000_000)
    (tmp_path / "text.txt").write_text("a")
    for name, words in (
        ("no.png", "This file is no picture"),
        ("huge.png", "64 million at most, got 9000 x 9000"),
        ("heavy.png", "10 MB at most, got 12.0 MB"),
        ("text.txt", "got text.txt"),
    ):
        page.choose_file("input[type=file]", tmp_path / name)
        refused(page, words)
    Image.fromarray(noise).save(tmp_path / "good.png")
    page.choose_file("input[type=file]", tmp_path / "good.png")
    page.wait(
        "document.querySelector('#kyvo-picture figcaption').innerText.includes('cropped to its middle of 40 × 40')"
    )
    write_json(page, '{"objects": [{"size": "huge"}]}')
    refused(page, "'huge' is none of large, small")
    tab(page, "Ask")
    page.click("#kyvo-ask")
    refused(page, "Type a question first")
    page.evaluate("document.querySelector('#kyvo-ask-text :is(input, textarea)').removeAttribute('maxlength')")
    page.type("#kyvo-ask-text :is(input, textarea)", "☃" * 300)
    page.click("#kyvo-ask")
    refused(page, "1 to 512 tokens, got 900")
    page.type("#kyvo-ask-text :is(input, textarea)", "how many things are there")
    page.click("#kyvo-ask")
    page.wait("document.querySelector('.kyvo-answer small')?.innerText == 'how many things are there'")

"""The page of a run in a headless browser, wide and narrow: nothing overflows or fails, and its filters work."""

import json
import re
import shutil
import subprocess
from html import escape, unescape

import pytest

from tests.report_run import evaluate
from tests.tiny_world import make_coded_world

BROWSER = next((name for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name)), None)
pytestmark = [pytest.mark.browser, pytest.mark.skipif(BROWSER is None, reason="no Chromium")]

# Before the page's own script: what goes wrong from then on.
LISTEN = """<script>
window.faults = [];
window.addEventListener("error", event => window.faults.push(String(event.message || event.target.src)), true);
for (const kind of ["error", "warn"]) console[kind] = (...words) => window.faults.push(words.join(" "));
</script>"""

# After it: what is seen at first and after each press, by where things lie and not by what the script says.
PROBE = """<script>
const seen = () => Array.from(document.querySelectorAll("article"))
  .filter(card => card.getClientRects().length).map(card => ({ ...card.dataset }));
const press = (filter, value) => {
  document.querySelector(`button[data-filter="${filter}"][data-value="${value}"]`).click();
  return { seen: seen(), said: document.getElementById("count").textContent,
    headings: Array.from(document.querySelectorAll("h4")).filter(one => one.getClientRects().length).length };
};
addEventListener("load", () => {
  const root = document.documentElement;
  for (const one of document.querySelectorAll("details")) one.open = true;
  const found = { width: window.innerWidth, scroll: Math.max(root.scrollWidth, document.body.scrollWidth),
    every: press("task", ""), task: press("task", "recognition"), group: press("group", "worst"),
    formed: press("formed", "yes"), nothing: press("task", "question_answering") };
  press("formed", ""), press("group", "");
  found.again = press("task", "");
  found.images = Array.from(document.images, image => image.naturalWidth);
  found.faults = window.faults;
  parent.document.body.dataset.found = JSON.stringify(found);
});
</script>"""

# A window has a least width, a frame in it has none; with its text inside it is loaded when the whole is.
FRAME = """<!DOCTYPE html><html><body>
<iframe srcdoc="{text}" style="width: {width}px; height: 900px; border: 0"></iframe></body></html>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of random weights, listened to; with its pictures loaded at once."""
    folder = tmp_path_factory.mktemp("page")
    text = evaluate(make_coded_world(folder / "world"), folder, devices=1).read_text()
    text = text.replace("<head>", f"<head>{LISTEN}").replace("</body>", f"{PROBE}</body>")
    return text.replace(' loading="lazy"', "")


def look(page, width, folder):
    """What the probe found in the page in a browser of a width, in CSS pixels."""
    file = folder / "frame.html"
    file.write_text(FRAME.format(text=escape(page, quote=True), width=width))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
    command += [f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000", "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "CONSOLE" not in done.stderr
    return json.loads(unescape(re.search('data-found="([^"]*)"', done.stdout).group(1)))


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_in_a_browser(page, width, tmp_path):
    found = look(page, width, tmp_path)
    assert found["faults"] == []
    assert len(found["images"]) > 10
    assert min(found["images"]) >= 32
    assert found["width"] == width
    assert found["scroll"] <= width


def test_filters_in_a_browser(page, tmp_path):
    found = look(page, 800, tmp_path)
    every = found["every"]["seen"]
    assert {card["task"] for card in every} == {"recognition", "question_answering", "rendering"}
    assert found["every"]["said"] == f"{len(every)} of {len(every)} samples shown"
    assert found["task"]["seen"] == [card for card in every if card["task"] == "recognition"]
    assert found["group"]["seen"] == [card for card in found["task"]["seen"] if card["group"] == "worst"]
    assert found["group"]["headings"] == 1
    assert found["formed"]["seen"] == [card for card in found["group"]["seen"] if card["formed"] == "yes"]
    # Answers are right or wrong and never the worst.
    assert (found["nothing"]["seen"], found["nothing"]["headings"]) == ([], 0)
    assert found["again"] == found["every"]

"""Headless Chromium, driven over its DevTools protocol: clicks, fingers, uploads, and what it asked of the network."""

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
import time
from pathlib import Path

BROWSER = next((name for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name)), None)
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--mute-audio")


class Browser:
    """One tab. Use as a context manager.

    Args:
        folder: For the browser's profile.
    """

    def __init__(self, folder: Path) -> None:
        self.profile = folder / "profile"
        self.requests, self.console, self.numbers = [], [], itertools.count(1)

    def __enter__(self):
        command = [BROWSER, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={self.profile}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self._connect())
        for domain in ("Page", "Runtime", "Network", "DOM", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *error):
        self.loop.run_until_complete(self.session.close())
        self.loop.close()
        self.process.terminate()
        self.process.wait(20)

    async def _connect(self):
        import aiohttp

        port = self.profile / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not (port.is_file() and port.read_text().count("\n")):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        self.session = aiohttp.ClientSession()
        address = f"http://127.0.0.1:{port.read_text().split()[0]}/json"
        async with self.session.get(address) as answer:
            pages = [one for one in await answer.json() if one["type"] == "page"]
        self.socket = await self.session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)

    # ---- protocol -----------------------------------------------------------------------------------------------

    def call(self, method, **parameters):
        """The result of a method of the protocol."""
        return self.loop.run_until_complete(self._call(method, parameters))

    async def _call(self, method, parameters):
        number = next(self.numbers)
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await asyncio.wait_for(self.socket.receive_json(), 120)
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message):
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requests.append(parameters["url"])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.console.append(parameters["entry"]["text"] + " " + parameters["entry"].get("url", ""))
        elif method == "Runtime.exceptionThrown":
            self.console.append(json.dumps(parameters["exceptionDetails"]))

    # ---- looking ------------------------------------------------------------------------------------------------

    def open(self, url, width, height=900):
        """Load a page in a window of a size in CSS pixels; below 500 it is a phone's, with fingers."""
        phone = width < 500
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.call("Page.navigate", url=url)

    def evaluate(self, script):
        """The JSON value of an expression."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script, timeout=60):
        """Wait until an expression is true, or an element is there."""
        deadline = time.monotonic() + timeout
        while not self.evaluate(f"Boolean({script})"):
            assert time.monotonic() < deadline, f"never true: {script}\n{self.evaluate('document.body.innerText')}"
            time.sleep(0.05)

    def screenshot(self, file, whole=True):
        """A picture of the page."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        Path(file).write_bytes(base64.b64decode(data))

    # ---- doing --------------------------------------------------------------------------------------------------

    def middle(self, selector):
        """Where the middle of an element is seen, after scrolling it into view."""
        place = json.dumps(selector)
        self.wait(f"document.querySelector({place})?.getClientRects().length")
        return self.evaluate(
            f"(() => {{ const one = document.querySelector({place}); one.scrollIntoView({{block: 'center'}});"
            "const box = one.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )

    def click(self, selector):
        """Press an element with the mouse."""
        x, y = self.middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def drag(self, selector, across, down):
        """Drag from the middle of an element with the mouse."""
        x, y = self.middle(selector)
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", clickCount=1)
        for share in (0.25, 0.5, 0.75, 1):
            place = {"x": x + across * share, "y": y + down * share}
            self.call("Input.dispatchMouseEvent", type="mouseMoved", button="left", buttons=1, **place)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", button="left", **place)

    def swipe(self, selector, across, down):
        """Drag from the middle of an element with a finger."""
        x, y = self.middle(selector)
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        for share in (0.25, 0.5, 0.75, 1):
            place = {"x": x + across * share, "y": y + down * share}
            self.call("Input.dispatchTouchEvent", type="touchMove", touchPoints=[place])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def type(self, selector, text):
        """Replace what stands in a text field."""
        self.click(selector)
        self.evaluate(f"document.querySelector({json.dumps(selector)}).select?.()")
        self.call("Input.insertText", text=text)

    def choose_file(self, selector, file):
        """Hand a file to an input of that kind."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node)

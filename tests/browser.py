"""A headless Chromium, steered over its debugging protocol: what a page shows, asks for and complains of.

``find`` says where one is installed; tests skip where none is. Nothing outside this machine is asked for: every other
name is resolved to nowhere, and what was asked for is kept in :attr:`Page.requests`.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_S = 30.0
FLAGS = (
    "--headless=new", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--mute-audio",
    "--disable-extensions", "--no-default-browser-check", "--remote-debugging-port=0",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip


def find() -> str | None:
    """Path of an installed Chromium."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@dataclass
class Page:
    """One page.

    Attributes:
        complaints: errors of its console, of its scripts and of its content security policy.
        requests: addresses that it asked for.
        session: of the protocol; empty for the browser itself.
    """

    socket: ClientConnection
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    session: str = ""
    _sent: int = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command; events that come before its answer are kept."""
        self._sent += 1
        command = {"id": self._sent, "method": method, "params": parameters}
        self.socket.send(json.dumps(command | ({"sessionId": self.session} if self.session else {})))
        while True:
            message = json.loads(self.socket.recv(timeout=PATIENCE_S))
            if message.get("id") == self._sent:
                assert "error" not in message, message
                return dict(message["result"])
            if message.get("sessionId", "") == self.session:
                self._note(message)

    def open(self, address: str, width: int, height: int = 900) -> None:
        """Go to an address in a window of this size, and wait until it is loaded."""
        mobile = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        went = self.call("Page.navigate", url=address)
        assert "errorText" not in went, went
        self.until("location.href !== 'about:blank' && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, script: str, seconds: float = PATIENCE_S) -> None:
        """Wait for an expression to be true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)

    def picture(self, path: Path, *, whole: bool = False) -> Path:
        """A PNG of what is seen, or of the whole page."""
        size = {}
        if whole:
            box = self.call("Page.getLayoutMetrics")["cssContentSize"]
            size = {"clip": {"x": 0, "y": 0, "width": box["width"], "height": box["height"], "scale": 1}}
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **size)
        path.write_bytes(base64.b64decode(found["data"]))
        return path

    def _note(self, event: dict[str, Any]) -> None:
        kind, about = event.get("method", ""), event.get("params", {})
        if kind == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif kind == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(about["exceptionDetails"]))
        elif kind == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning"):
            self.complaints.append(json.dumps(about["args"]))
        elif kind == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")


class Browser:
    """A running Chromium; every page of it has cookies of its own."""

    def __init__(self, socket: ClientConnection) -> None:
        self._whole = Page(socket)

    @contextmanager
    def page(self) -> Iterator[Page]:
        """A new page, which is closed afterwards."""
        context = self._whole.call("Target.createBrowserContext")["browserContextId"]
        target = self._whole.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self._whole.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self._whole.socket, session=session, _sent=self._whole._sent + 1_000_000)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        try:
            yield page
        finally:
            self._whole._sent = page._sent
            self._whole.call("Target.disposeBrowserContext", browserContextId=context)


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser with a profile of its own; both are gone afterwards."""
    program = find()
    assert program, "there is no Chromium"
    with tempfile.TemporaryDirectory(prefix="browser", ignore_cleanup_errors=True) as profile:
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        process = subprocess.Popen(  # noqa: S603 - the installed browser
            [program, *FLAGS, *root, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with connect(_address(Path(profile), process), max_size=None, open_timeout=PATIENCE_S) as socket:
                yield Browser(socket)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(profile: Path, process: "subprocess.Popen[bytes]") -> str:
    """Where the browser listens, once it says so."""
    told = profile / "DevToolsActivePort"
    end = time.monotonic() + PATIENCE_S
    while not (told.is_file() and len(lines := told.read_text().split()) == 2):
        assert process.poll() is None, "the browser ended at once"
        assert time.monotonic() < end, "the browser did not start"
        time.sleep(0.05)
    return f"ws://127.0.0.1:{lines[0]}{lines[1]}"

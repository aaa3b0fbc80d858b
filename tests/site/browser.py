"""A headless Chromium driven over its DevTools protocol: evaluates scripts, takes pictures, notes errors, requests."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)


def executable() -> str | None:
    """Return the browser, from CHROMIUM or the path, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


class Browser:
    """One page of a fresh browser profile.

    Attributes:
        problems: console errors, warnings and uncaught exceptions.
        requests: every address asked for.
    """

    def __init__(self, profile: Path, width: int = 1280, height: int = 900) -> None:
        from websocket import create_connection

        self.problems: list[str] = []
        self.requests: list[str] = []
        self.number = 0
        command = [executable() or "chromium", *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        self.process = subprocess.Popen([*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port, path = self.wait(lambda: (profile / "DevToolsActivePort").read_text().split()[:2], 60)
        self.socket = create_connection(f"ws://127.0.0.1:{port}{path}", timeout=60, suppress_origin=True)
        self.session = ""
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.size(width, height)

    def size(self, width: int, height: int, *, mobile: bool = False, scale: float = 1) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )

    def scheme(self, name: str) -> None:
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def open(self, path: Path, fragment: str = "") -> None:
        """Open a file and wait until the page says that it is ready."""
        self.call("Page.navigate", url="about:blank")
        self.requests.clear()
        self.call("Page.navigate", url=path.absolute().as_uri() + fragment)
        self.until("document.documentElement?.dataset.ready === 'true'")

    def go(self, fragment: str) -> None:
        """Follow an address within the page."""
        self.run(f"location.hash = {json.dumps(fragment)}")
        self.settle()

    def run(self, script: str) -> Any:
        """Evaluate an expression (awaiting promises) and return its value."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def settle(self) -> None:
        """Wait for two frames, so that what was asked for is drawn."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def until(self, condition: str, seconds: float = 30) -> None:
        self.wait(lambda: [1][0 if self.run(condition) else 1], seconds)

    def press(self, key: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            extra = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **extra)
        self.settle()

    def picture(self, path: Path, *, full: bool = False) -> None:
        self.settle()
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=full)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(20)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        kind, about = event.get("method"), event.get("params", {})
        if kind == "Runtime.exceptionThrown":
            details = about["exceptionDetails"]
            self.problems.append(str(details.get("exception", {}).get("description") or details["text"]))
        elif kind == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.problems.append(f"console.{about['type']}: {[a.get('value') for a in about['args']]}")
        elif kind == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.problems.append(str(about["entry"]["text"]))
        elif kind == "Network.requestWillBeSent":
            self.requests.append(str(about["request"]["url"])[:200])

    def wait(self, attempt: Any, seconds: float = 30) -> Any:
        """Try until it works, and return what it gives."""
        end = time.monotonic() + seconds
        while True:
            try:
                return attempt()
            except (OSError, ValueError, IndexError):
                if time.monotonic() > end or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

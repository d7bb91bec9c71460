"""A real browser for tests: headless Chromium, driven over Chrome's DevTools protocol."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE_S = 20.0
FLAGS = [f"--disable-{what}" for what in ("gpu", "dev-shm-usage", "extensions", "background-networking", "component-update", "sync")]
FLAGS += ["--headless=new", "--no-sandbox", "--no-first-run", "--mute-audio", "--hide-scrollbars", "--remote-debugging-port=0"]


def executable() -> str | None:
    """An installed Chromium or Chrome, or the one that QI2_CHROME names."""
    return os.environ.get("QI2_CHROME") or next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One browser with one page; a second ``Browser`` has its own cookies. Use as a context."""

    def __enter__(self) -> "Browser":
        self._folder = tempfile.TemporaryDirectory(prefix="qi2-chrome-", ignore_cleanup_errors=True)
        command = [str(executable()), *FLAGS, f"--user-data-dir={self._folder.name}", "about:blank"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        self._numbers, self.errors, self.statuses = itertools.count(1), list[str](), list[int]()
        port, path = self._address()
        self._socket = connect(f"ws://127.0.0.1:{port}{path}", max_size=None, open_timeout=PATIENCE_S, origin=None)
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_: Any) -> None:
        self._socket.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol; what scripts throw meanwhile is kept in ``errors``, HTTP statuses of answers in ``statuses``."""
        number = next(self._numbers)
        session = {"sessionId": self._session} if getattr(self, "_session", "") else {}
        self._socket.send(json.dumps({"id": number, "method": method, "params": params, **session}))
        while True:
            message = json.loads(self._socket.recv(PATIENCE_S))
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(message["params"]["exceptionDetails"].get("exception", message["params"])))
            if message.get("method") == "Network.responseReceivedExtraInfo":  # comes also for answers that the page may not read
                self.statuses.append(message["params"]["statusCode"])
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]

    def window(self, width: int, height: int, phone: bool = False, dark: bool = False) -> None:
        """The size of the page in CSS pixels; a phone has touch and no mouse."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def open(self, url: str) -> None:
        """Load a page."""
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """The value of an expression; a promise is awaited."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def until(self, condition: str, seconds: float = PATIENCE_S) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            if time.monotonic() > end:
                raise AssertionError(f"not true after {seconds} s: {condition}; the page says {self.run('document.body.innerText')!r}")
            time.sleep(0.03)

    def until_answered(self, status: int, seconds: float = PATIENCE_S) -> None:
        """Wait until a server has answered with this status."""
        end = time.monotonic() + seconds
        while status not in self.statuses:
            assert time.monotonic() < end, f"no answer {status} in {seconds} s, only {self.statuses}"
            self.run("0")
            time.sleep(0.03)

    def key(self, name: str, **more: Any) -> None:
        """Press and release a key as the keyboard does."""
        text = {"text": name} if len(name) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=name, **text, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=name)

    def tap(self, selector: str) -> None:
        """Touch the middle of an element with a finger."""
        box = self.run(
            f"(() => {{ const b = document.querySelector({selector!r}).getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2] }})()"
        )
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": box[0], "y": box[1]}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def screenshot(self, path: Path) -> None:
        """What is seen now, as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def _address(self) -> tuple[str, str]:
        """Port and path of the protocol, which the browser writes down when it listens."""
        file, end = Path(self._folder.name) / "DevToolsActivePort", time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            lines = file.read_text().split("\n") if file.exists() else []
            if len(lines) >= 2 and lines[1]:
                return lines[0], lines[1]
            time.sleep(0.03)
        raise RuntimeError(f"{executable()} did not start within {PATIENCE_S:.0f} s")

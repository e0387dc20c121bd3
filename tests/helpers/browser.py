"""Chromium without a window, driven through the DevTools protocol over two pipes.

https://chromedevtools.github.io/devtools-protocol/ names the commands and events.
"""

import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_SECONDS = 120  # that a command may take on a busy machine


class Browser:
    """One tab. ``events`` has what it told, as (name, values), since the last ``open``."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self._unread = b""
        self._last = 0
        self._session: str | None = None
        self.events: list[tuple[str, dict[str, Any]]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command, and give its result."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])

    def open(self, path: Path) -> None:
        """Load a page from a file, and wait until all of it is there."""
        self.events.clear()
        self.send("Page.navigate", url=path.as_uri())
        while all(name != "Page.loadEventFired" for name, _ in self.events):
            self._receive()

    def run(self, expression: str) -> Any:
        """The value of an expression of JavaScript."""
        result = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"]["description"])
        return result["result"].get("value")

    def show(self, width: int, height: int = 800, scheme: str = "light") -> None:
        """Give the tab a size in pixels and a colour scheme, and wait for the next frames."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.send("Emulation.setEmulatedMedia", features=[feature])
        frame = "new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))"
        self.run(frame)
        self.run(frame)

    def move(self, x: float, y: float) -> None:
        """Move the mouse."""
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def press(self, key: str) -> None:
        """Press and release a key, such as ``"ArrowRight"``, ``"Enter"`` or ``"a"``."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        code = {"Enter": 13, "Tab": 9}.get(key, 0)
        values = {"key": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **values)
        self.send("Input.dispatchKeyEvent", type="keyUp", **values)

    @property
    def requested(self) -> list[str]:
        """The addresses that the page asked for, without its own."""
        return [
            values["request"]["url"]
            for name, values in self.events
            if name == "Network.requestWillBeSent" and values["type"] != "Document"
        ]

    @property
    def logged(self) -> list[tuple[str, dict[str, Any]]]:
        """What a console would show."""
        names = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event for event in self.events if event[0] in names]

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + _SECONDS
        while b"\0" not in self._unread:
            if not select.select([self._reading], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError("no answer from chromium")
            chunk = os.read(self._reading, 1 << 20)
            if not chunk:
                raise RuntimeError("chromium has ended")
            self._unread += chunk
        message, _, self._unread = self._unread.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        if "method" in answer:
            self.events.append((answer["method"], answer["params"]))
        return answer


@contextmanager
def browser() -> Iterator[Browser]:
    """Start Chromium with an empty profile; in the end it is gone."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        "--headless=new",
        "--remote-debugging-pipe",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--hide-scrollbars",
        "about:blank",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ]
    # Chromium reads commands from descriptor 3 and writes to 4: the pipes' own must be others.
    pipes = os.pipe() + os.pipe()
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in pipes]
    for end in pipes:
        os.close(end)
    commands, writing, reading, answers = ends
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        child = os.posix_spawn(
            CHROMIUM,
            [*command, f"--user-data-dir={profile}"],
            {**os.environ, "HOME": profile},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, commands, 3),
                (os.POSIX_SPAWN_DUP2, answers, 4),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
            setpgroup=0,
        )
        os.close(commands)
        os.close(answers)
        try:
            yield Browser(reading, writing)
        finally:
            os.close(writing)
            os.close(reading)
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)

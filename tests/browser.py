"""A browser without a window, driven over the DevTools protocol as somebody would use it by mouse and keyboard."""

import base64
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from websockets.sync.client import ClientConnection, connect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SIZE = (1200, 1040)
"""Width and height of the window in pixels."""
PATIENCE = 300.0
"""Seconds that anything on the page may take, on a machine that is busy otherwise."""
FIND_LABELLED = """
const found = text => {
  const label = [...document.querySelectorAll("label")].find(label => label.textContent === text);
  return label && label.closest("div[class*=Flex-root]").querySelector("input");
};
"""
"""Finds the input beside a label; viser gives text boxes no id that the label could name."""
T = TypeVar("T")


def wait_for(what: str, look: Callable[[], T | None], patience: float = PATIENCE) -> T:
    """What `look` returns as soon as that is neither None nor False."""
    give_up = time.monotonic() + patience
    while (found := look()) is None or found is False:
        assert time.monotonic() < give_up, f"Waited {patience:.0f} s in vain for {what}."
        time.sleep(0.1)
    return found


class Page:
    """A page in a browser."""

    def __init__(self, socket: ClientConnection, folder: Path) -> None:
        """Drives the page behind a DevTools socket, and writes screenshots into a folder."""
        self.complaints: list[str] = []
        """What the page did not catch."""
        self.logged: list[str] = []
        """What the browser logged about it as an error: what it could not load or was not allowed to, for example."""
        self._socket, self._folder, self._numbers = socket, folder, count(1)
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the browser answers."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(PATIENCE))
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self._listen(message)

    def run(self, script: str) -> Any:
        """The value of an expression in the page's own language."""
        answer = self.command("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def open(self, address: str) -> None:
        """Loads a page."""
        self.command("Page.navigate", url=address)

    @property
    def text(self) -> str:
        """All that is written on the page."""
        return self.run("document.body ? document.body.innerText : ''")

    def sees(self, text: str) -> None:
        """Waits until a text is on the page."""
        try:
            wait_for(f"the text {text!r}", lambda: text in self.text)
        except AssertionError as error:
            raise AssertionError(f"{error} The page reads: {self.text}") from None

    def press(self, button: str) -> None:
        """Clicks on a button."""
        script = f"[...document.querySelectorAll('button')].find(one => one.textContent === {json.dumps(button)})"
        self._click(f"the button {button!r}", script)

    def type(self, label: str, text: str) -> None:
        """Replaces what is in a text box, one key after the other."""
        self._click(f"the box {label!r}", self._labelled(label))
        self.run(f"{self._labelled(label)}.select()")
        for letter in text:
            self.command("Input.dispatchKeyEvent", type="char", text=letter)

    def key(self, name: str, code: int) -> None:
        """Presses and releases a key that writes nothing, by its name and its number on Windows."""
        for kind in ("rawKeyDown", "keyUp"):
            self.command("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)

    def value(self, label: str) -> str:
        """What a box or a list shows."""
        return wait_for(f"the box {label!r}", lambda: self.run(f"({self._labelled(label)} || {{}}).value"))

    def options(self, label: str) -> list[str]:
        """What can be chosen from a list."""
        self._click(f"the list {label!r}", self._labelled(label))
        self.run(f"{self._labelled(label)}.select()")
        options = wait_for(
            f"the options of {label!r}", lambda: self.run(f"{_SHOWN}.map(one => one.textContent)") or None
        )
        self.command("Input.dispatchKeyEvent", type="keyDown", key="Escape", windowsVirtualKeyCode=27)
        return options

    def choose(self, label: str, option: str) -> None:
        """Chooses from a list."""
        self._click(f"the list {label!r}", self._labelled(label))
        found = f"{_SHOWN}.find(one => one.textContent === {json.dumps(option)})"
        self._click(f"the option {option!r} of {label!r}", found)
        wait_for(f"the choice of {option!r}", lambda: self.value(label) == option)

    def screenshot(self, name: str) -> Path:
        """A picture of the page as it is."""
        path = self._folder / f"{name}.png"
        path.write_bytes(base64.b64decode(self.command("Page.captureScreenshot")["data"]))
        if elsewhere := os.environ.get("LATENTEDITOR_SCREENSHOTS"):
            Path(elsewhere).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, elsewhere)
        return path

    def _labelled(self, label: str) -> str:
        return f"(() => {{ {FIND_LABELLED} return found({json.dumps(label)}); }})()"

    def _click(self, what: str, element: str) -> None:
        """Moves the mouse to an element and clicks, as soon as it is there and nothing lies over it."""
        script = f"""(() => {{
            const element = {element};
            if (!element) return null;
            element.scrollIntoView({{block: "center"}});
            const box = element.getBoundingClientRect();
            const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
            return element.contains(document.elementFromPoint(x, y)) ? [x, y] : null;
        }})()"""
        x, y = wait_for(what, lambda: self.run(script))
        mouse = {"x": x, "y": y, "button": "left", "clickCount": 1}
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.command("Input.dispatchMouseEvent", type=kind, **mouse)

    def _listen(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        if event["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.logged.append(parameters["entry"]["text"])
        if event["method"] == "Runtime.consoleAPICalled" and parameters["type"] == "error":
            self.logged.append(json.dumps(parameters["args"]))


_SHOWN = "[...document.querySelectorAll('[role=option]')].filter(one => one.checkVisibility())"


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """An empty page in a browser that ends with the context; screenshots go into a folder."""
    assert CHROMIUM is not None
    profile = folder / "profile"
    process = subprocess.Popen(
        [
            CHROMIUM,
            *FLAGS,
            f"--window-size={SIZE[0]},{SIZE[1]}",
            f"--user-data-dir={profile}",
            "--remote-debugging-port=0",
            "about:blank",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        written = profile / "DevToolsActivePort"
        port = wait_for("the browser", lambda: (written.is_file() and written.read_text().split("\n")[0]) or None)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            address = next(tab["webSocketDebuggerUrl"] for tab in json.load(answer) if tab["type"] == "page")
        with connect(address, max_size=None) as socket:
            yield Page(socket, folder)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

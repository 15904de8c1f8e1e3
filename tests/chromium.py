"""Drives a real, headless Chromium through its own protocol (DevTools over a WebSocket), for tests of the live page."""

import base64
import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

from websockets.sync.client import connect

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ELSEWHERE = "audiojax.example"  # another name of this machine's loopback, which browsers do not trust
FLAGS = [
    f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1",
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--use-fake-device-for-media-stream",
    "--ignore-certificate-errors",
    "--autoplay-policy=user-gesture-required",
    "--mute-audio",
]


class Chromium:
    """One browser with one page. `microphone` is a WAV file, played again and again; without one it is refused."""

    def __init__(self, folder: Path, microphone: Path | None, *, loop: bool = True):
        sound = microphone if loop else f"{microphone}%noloop"
        use = [f"--use-file-for-fake-audio-capture={sound}", "--use-fake-ui-for-media-stream"]
        profile, deny = folder / "profile", ["--deny-permission-prompts"]
        command = [PROGRAM, *FLAGS, *(use if microphone else deny), f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._number, self.errors = 0, []
        try:
            told = self.until(lambda: (profile / "DevToolsActivePort").read_text().split(), OSError)
            self._socket = connect(f"ws://127.0.0.1:{told[0]}{told[1]}", max_size=None).__enter__()
            page = self._send("Target.createTarget", url="about:blank")["targetId"]
            self._session = self._send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Chromium":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()

    def call(self, method: str, **parameters) -> dict:
        return self._send(method, self._session, **parameters)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until(lambda: self.run("document.readyState === 'complete' && location.href !== 'about:blank'"))

    def run(self, script: str):
        """The value of a script, which may be a promise, as if a person had just pressed something."""
        told = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def press(self, selector: str) -> None:
        """Clicks with the mouse into the middle of an element."""
        box = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{box}.scrollIntoView({{block: 'center'}})")
        x, y = self.run(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({box}.getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def drop(self, path: Path) -> None:
        """Drops a file onto the page."""
        content = base64.b64encode(path.read_bytes()).decode()
        self.run(
            f"""{{
            const dataTransfer = new DataTransfer();
            const content = Uint8Array.from(atob("{content}"), (letter) => letter.charCodeAt(0));
            dataTransfer.items.add(new File([content], "{path.name}"));
            document.body.dispatchEvent(new DragEvent("drop", {{ bubbles: true, cancelable: true, dataTransfer }}));
            }}"""
        )

    def key(self, text: str) -> None:
        code = {"Enter": 13, "Escape": 27}.get(text, ord(text[0]))
        said = {"text": "\r" if text == "Enter" else text} if text != "Escape" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=text, windowsVirtualKeyCode=code, **said)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=text, windowsVirtualKeyCode=code)

    def look(self, width: int, height: int, dark: bool, scale: float = 1) -> None:
        media = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=media)
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=False)["data"]))

    def until(self, met, *errors: type[Exception], seconds: float = 30):
        """The first true value of `met`."""
        end, value = time.monotonic() + seconds, None
        while time.monotonic() < end:
            try:
                if value := met():
                    return value
            except errors:
                pass
            time.sleep(0.05)
        raise AssertionError(f"it did not come in {seconds} s; the browser complains: {self.errors}")

    def _send(self, method: str, session: str | None = None, **parameters) -> dict:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            told = json.loads(self._socket.recv(timeout=30))
            if told.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.errors.append(told["params"])
            if told.get("id") == self._number:
                assert "error" not in told, told
                return told["result"]

"""A real browser for the tests: headless Chromium, driven by chromedriver's WebDriver protocol (W3C)
over HTTP, with nothing but the standard library."""

import base64
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from retrotest import Skip

KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "Left": "\ue012", "Up": "\ue013", "Right": "\ue014",
        "Down": "\ue015", "Home": "\ue011", "End": "\ue010", "Shift": "\ue008", "Tab": "\ue004"}
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    def __init__(self, width=1366, height=768, dark=False):
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if not chromium or not driver:
            raise Skip("no chromium and chromedriver")
        self.folder = tempfile.mkdtemp(prefix="retro-browser-")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.base = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        args = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage", "--hide-scrollbars",
                f"--window-size={width},{height}", f"--user-data-dir={self.folder}"]
        try:
            self.wait_for_driver()
            caps = {"browserName": "chrome", "goog:loggingPrefs": {"browser": "ALL"},
                    "goog:chromeOptions": {"binary": chromium, "args": args}}
            got = self.call("POST", "/session", {"capabilities": {"alwaysMatch": caps}}, whole=True)
            self.session = "/session/" + got["sessionId"]
            self.devtools("Emulation.setDeviceMetricsOverride",
                          {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
            self.devtools("Emulation.setEmulatedMedia", {"features": [
                {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})
        except Exception:
            self.close()
            raise

    def wait_for_driver(self):
        end = time.monotonic() + 60
        while True:
            try:
                if self.call("GET", "/status")["ready"]:
                    return
            except (urllib.error.URLError, ConnectionError):
                pass
            assert time.monotonic() < end, "chromedriver does not answer"
            time.sleep(0.05)

    def call(self, method, path, body=None, whole=False):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"},
                                         method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as f:
                return json.loads(f.read())["value"]
        except urllib.error.HTTPError as e:
            raise AssertionError("browser: " + json.loads(e.read())["value"]["message"]) from None

    def do(self, method, path, body=None):
        return self.call(method, self.session + path, body)

    def devtools(self, command, params):
        return self.do("POST", "/goog/cdp/execute", {"cmd": command, "params": params})

    def open(self, path):
        self.do("POST", "/url", {"url": "file://" + path})

    def js(self, script, *args):
        return self.do("POST", "/execute/sync", {"script": script, "args": list(args)})

    def until(self, script, what, seconds=60):
        end = time.monotonic() + seconds
        while not (v := self.js("return " + script)):
            assert time.monotonic() < end, "never came: " + what
            time.sleep(0.05)
        return v

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0]).innerText", selector)

    def press(self, *keys, shift=False):
        acts = [{"type": "keyDown", "value": KEYS["Shift"]}] if shift else []
        for k in keys:
            k = KEYS.get(k, k)
            acts += [{"type": "keyDown", "value": k}, {"type": "keyUp", "value": k}]
        if shift:
            acts.append({"type": "keyUp", "value": KEYS["Shift"]})
        self.do("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": acts}]})

    def type(self, text):
        self.press(*text)

    def pointer(self, *acts):
        self.do("POST", "/actions", {"actions": [{"type": "pointer", "id": "mouse",
                                                  "parameters": {"pointerType": "mouse"},
                                                  "actions": list(acts)}]})

    def move(self, x, y):
        self.pointer({"type": "pointerMove", "duration": 0, "x": int(x), "y": int(y)})

    def click(self, x, y):
        self.pointer({"type": "pointerMove", "duration": 0, "x": int(x), "y": int(y)},
                     {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0})

    def wheel(self, x, y, dy):
        self.do("POST", "/actions", {"actions": [{"type": "wheel", "id": "wheel", "actions": [
            {"type": "scroll", "x": int(x), "y": int(y), "deltaX": 0, "deltaY": int(dy), "duration": 0}]}]})

    def screenshot(self, path):
        with open(path, "wb") as f:
            f.write(base64.b64decode(self.do("GET", "/screenshot")))

    def complaints(self):
        """What the page's console says of errors: scripts that failed, things that were blocked."""
        return [l["message"] for l in self.do("POST", "/se/log", {"type": "browser"})
                if l["level"] in ("SEVERE", "WARNING")]

    def close(self):
        try:
            if hasattr(self, "session"):
                self.do("DELETE", "")
        except (OSError, AssertionError):
            pass
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

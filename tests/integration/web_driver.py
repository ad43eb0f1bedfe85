"""A headless Chromium by way of chromedriver's WebDriver protocol (w3.org/TR/
webdriver2), as much of it as the tests of the status page need."""

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request


def find_chromium():
    """(chromium, chromedriver), or what is missing, as a string."""
    paths = []
    for name in ("chromium", "chromedriver"):
        path = shutil.which(name)
        if path is None:
            return f"{name} is not installed (scripts/setup.sh --browser)"
        paths.append(path)
    return tuple(paths)


class Browser:
    """With-statement: one window."""

    def __init__(self, chromium, driver, profile):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.base = f"http://127.0.0.1:{port}"
        self.driver = subprocess.Popen(
            [driver, f"--port={port}"], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self._wait_for_driver()
            arguments = ["--headless=new", "--disable-gpu", "--hide-scrollbars",
                         "--disable-dev-shm-usage",
                         f"--user-data-dir={profile}"]
            if os.geteuid() == 0:
                arguments.append("--no-sandbox")  # Else it does not start.
            reply = self._call("POST", "/session", {"capabilities": {
                "alwaysMatch": {
                    "browserName": "chrome",
                    "goog:chromeOptions": {"binary": chromium,
                                           "args": arguments},
                    "goog:loggingPrefs": {"browser": "ALL",
                                          "performance": "ALL"}}}})
            self.session = "/session/" + reply["sessionId"]
        except BaseException:
            self._end_driver()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        try:
            self._call("DELETE", self.session)
        finally:
            self._end_driver()

    def _wait_for_driver(self):
        end = time.monotonic() + 60
        while True:
            try:
                if self._call("GET", "/status")["ready"]:
                    return
            except (urllib.error.URLError, ConnectionError):
                pass
            if time.monotonic() > end or self.driver.poll() is not None:
                raise AssertionError("chromedriver does not answer")
            time.sleep(0.05)

    def _end_driver(self):
        self.driver.terminate()
        self.driver.wait()

    def _call(self, method, path, body=None):
        request = urllib.request.Request(
            self.base + path, method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()}") from error

    def devtools(self, command, **parameters):
        return self._call("POST", self.session + "/goog/cdp/execute",
                          {"cmd": command, "params": parameters})

    def open(self, url):
        self._call("POST", self.session + "/url", {"url": url})

    def run(self, script, *arguments):
        """What the body of a function in JavaScript returns."""
        return self._call("POST", self.session + "/execute/sync",
                          {"script": script, "args": list(arguments)})

    def text(self, selector):
        return self.run("const e = document.querySelector(arguments[0]);"
                        "return e && !e.hidden ? e.textContent : null",
                        selector)

    def window(self, width, height, dark=False):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width,
                      height=height, deviceScaleFactor=1, mobile=False)
        self.devtools("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme",
             "value": "dark" if dark else "light"}])

    def mouse_to(self, x, y):
        self.devtools("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def key(self, name):
        for kind in ("keyDown", "keyUp"):
            self.devtools("Input.dispatchKeyEvent", type=kind, key=name)

    def console(self):
        """What has been written since the last question."""
        return [entry["message"] for entry in self._call(
            "POST", self.session + "/se/log", {"type": "browser"})]

    def requests(self):
        """The URLs that have been asked for since the last question."""
        urls = []
        for entry in self._call("POST", self.session + "/se/log",
                                {"type": "performance"}):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                urls.append(message["params"]["request"]["url"])
        return urls

    def screenshot(self, path):
        image = self.devtools("Page.captureScreenshot")
        with open(path, "wb") as file:
            file.write(base64.b64decode(image["data"]))

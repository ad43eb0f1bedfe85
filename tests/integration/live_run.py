"""A `qfleet train` on this machine, for tests that look at its processes."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request


def wait_for(condition, seconds, what):
    """The first true value of condition(), asked until the deadline."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def get(address, path):
    with urllib.request.urlopen(f"http://{address}{path}", timeout=20) as reply:
        return reply.read().decode()


class LiveRun:
    """With-statement: the run's processes serve inside it."""

    def __init__(self, binaries, config, settings):
        self.directory = tempfile.mkdtemp(prefix="qfleet_live_")
        self.run_dir = os.path.join(self.directory, "run")
        self.command = [os.path.join(binaries, "qfleet"), "train", config,
                        f"--run_dir={self.run_dir}"]
        self.command += [f"--set={setting}" for setting in settings]
        self.process = None

    def __enter__(self):
        self.log = open(os.path.join(self.directory, "log"), "w+")
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=self.log,
            stderr=subprocess.STDOUT)
        return self

    def __exit__(self, *unused):
        self.stop()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def output(self):
        self.log.seek(0)
        return self.log.read()

    def address(self, name):
        """Where process `name` ("learner", "replay-0") serves its page."""

        def read():
            if self.process.poll() is not None:
                raise AssertionError(f"the run has ended: {self.output()}")
            try:
                with open(os.path.join(self.run_dir, "ready", name)) as ready:
                    words = dict(line.split() for line in ready)
            except OSError:
                return None
            return words.get("metrics")

        return wait_for(read, 120, f"{name} serves")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

#!/usr/bin/env python3
"""The status pages of a real run in a real browser.

    status_page_test.py SOURCE_DIR BIN_DIR SCREENSHOTS

Skipped (77) where there is no Chromium. Leaves its screenshots in the folder
SCREENSHOTS for a person to look at.
"""

import os
import re
import sys
import tempfile

import live_run
import web_driver

SKIPPED = 77
PATIENCE = 90  # Seconds; a machine may be busy.


class Pages:
    def __init__(self, browser, bases, screenshots):
        self.browser = browser
        # The page before may have polled once more.
        self.allowed = (*bases, "data:", "chrome:")
        self.screenshots = screenshots

    def wait(self, what, script, *arguments):
        return live_run.wait_for(
            lambda: self.browser.run(script, *arguments), PATIENCE, what)

    def shoot(self, name):
        height = self.browser.run("return document.body.scrollHeight + 20")
        width = self.browser.run("return innerWidth")
        dark = self.browser.run(
            "return matchMedia('(prefers-color-scheme: dark)').matches")
        self.browser.window(width, max(height, 500), dark)
        self.browser.screenshot(os.path.join(self.screenshots, name + ".png"))

    def expect_clean(self, base):
        """No outside request, and nothing to complain of on the console."""
        urls = self.browser.requests()
        assert any(url == base + "status.json" for url in urls), urls
        strangers = [url for url in urls
                     if not url.startswith(self.allowed)]
        assert not strangers, strangers
        assert self.browser.console() == []

    def check_learner(self, base):
        browser = self.browser
        browser.window(1600, 1000)
        browser.open(base)
        self.wait("three evaluations on the curve",
                  "return document.querySelectorAll("
                  "'#curve circle.dot').length >= 3")
        # Evaluations may come before the learner's first report.
        self.wait("a report", "return ['training', 'waiting'].includes("
                  "document.getElementById('state').textContent)")
        assert "CartPole-v1" in browser.text("#subtitle")
        axis = browser.run("return [...document.querySelectorAll("
                           "'#curve text')].map(t => t.textContent)")
        assert "environment steps" in axis and "return of an episode" in axis
        self.check_values()
        self.check_numbers_change()
        self.shoot("learner_wide")
        browser.window(1600, 1000, dark=True)
        light = browser.run(
            "return getComputedStyle(document.body).backgroundColor")
        assert sum(map(int, re.findall(r"\d+", light)[:3])) < 150, light
        self.shoot("learner_dark")
        browser.window(400, 900)
        self.wait("the curve fits the narrow window",
                  "return document.querySelector('#curve svg').viewBox"
                  ".baseVal.width < 400")
        assert browser.run("return document.documentElement.scrollWidth") <= 400
        self.shoot("learner_narrow")
        browser.window(1600, 1000)
        self.check_metrics_table()
        self.expect_clean(base)

    # Over a point and with the arrow keys.
    def check_values(self):
        browser = self.browser
        x, y = self.wait("a point to look at", """
            const dots = document.querySelectorAll('#curve circle.dot');
            if (dots.length < 2) return null;
            const box = dots[1].getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2]""")
        browser.mouse_to(x, y)
        tip = self.wait("the value under the pointer", """
            const tip = document.querySelector('#curve .tip');
            return tip.hidden ? null : tip.innerText""")
        for part in ("mean return", "env steps", "updates", "after"):
            assert part in tip, tip
        browser.mouse_to(2, 2)
        self.wait("no value without a pointer",
                  "return document.querySelector('#curve .tip').hidden")
        browser.run("document.querySelector('#curve svg').focus()")
        browser.key("ArrowLeft")
        self.wait("the value that the arrow keys choose",
                  "return !document.querySelector('#curve .tip').hidden && "
                  "document.getElementById('curve-value').textContent"
                  ".startsWith('mean return')")
        browser.key("Escape")

    def check_numbers_change(self):
        script = """return [...document.querySelectorAll('#tiles .tile')]
            .map(t => t.innerText).join('|')"""
        before = self.browser.run(script)
        for name in ("Evaluation", "Env steps", "Updates", "Loss",
                     "Samples per insert"):
            assert name in before, before
        live_run.wait_for(lambda: self.browser.run(script) != before, PATIENCE,
                          "the numbers change")
        shares = self.browser.text("#time-legend")
        assert "updating" in shares and "waiting" in shares, shares
        assert self.browser.text("#waits")

    def check_metrics_table(self):
        browser = self.browser
        browser.run("document.querySelector('#all summary').click()")
        self.wait("all metrics",
                  "return document.querySelectorAll('#metrics tr').length > 30")
        browser.run("const find = document.getElementById('find');"
                    "find.value = 'updates_total';"
                    "find.dispatchEvent(new Event('input'))")
        self.wait("one metric",
                  "return document.querySelectorAll('#metrics tr').length == 2")
        browser.run("document.querySelector('#all summary').click()")

    def check_other(self, base, name, tile):
        self.browser.window(1600, 700)
        self.browser.open(base)
        self.wait(f"{name}: {tile}", """
            return [...document.querySelectorAll('#others .tile h3')]
                .some(t => t.textContent == arguments[0])""", tile)
        assert self.browser.text("#title") == name
        self.wait("ready", "return document.getElementById('state')"
                  ".textContent == 'running'")
        self.shoot(name)
        self.expect_clean(base)

    # The last state stays, and the page says what it is.
    def check_gone(self, base, run):
        self.browser.window(1600, 1000)
        self.browser.open(base)
        self.wait("the curve is back", "return document.querySelectorAll("
                  "'#curve circle.dot').length >= 3")
        run.stop()
        notice = self.wait("that nobody answers", """
            const notice = document.getElementById('notice');
            return document.getElementById('state').textContent == 'no answer'
                && !notice.hidden && notice.textContent""")
        assert "does not answer any more" in notice, notice
        assert self.browser.run("return document.querySelectorAll("
                                "'#curve circle.dot').length >= 3")
        self.shoot("learner_gone")


def main():
    source, binaries, screenshots = sys.argv[1:4]
    found = web_driver.find_chromium()
    if isinstance(found, str):
        print(f"skipped: {found}")
        return SKIPPED
    os.makedirs(screenshots, exist_ok=True)
    config = os.path.join(source, "configs", "cartpole.txtpb")
    settings = ["stop.mean_return=1000", "stop.max_env_steps=100000000",
                "evaluation.episodes=5", "actors.count=1", "replay.shards=1"]
    with tempfile.TemporaryDirectory() as profile, \
            live_run.LiveRun(binaries, config, settings) as run, \
            web_driver.Browser(*found, profile) as browser:
        base = {name: f"http://{run.address(name)}/"
                for name in ("learner", "replay-0", "actor-0", "evaluator")}
        pages = Pages(browser, base.values(), screenshots)
        pages.check_learner(base["learner"])
        pages.check_other(base["replay-0"], "replay-0", "Inserted")
        pages.check_other(base["actor-0"], "actor-0", "Env steps")
        pages.check_other(base["evaluator"], "evaluator", "Evaluations")
        pages.check_gone(base["learner"], run)
    print("status pages: fine")
    return 0


if __name__ == "__main__":
    sys.exit(main())

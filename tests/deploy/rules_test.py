#!/usr/bin/env python3
"""The Prometheus files: promtool accepts them and runs the rules' tests, and
each alert says what a person needs.

    tests/deploy/rules_test.py SOURCE_DIR

Python's standard library only, so it reads the YAML by lines, in the one layout
that the rules file has. Exits with 77 ("skipped") where there is no promtool.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else ".")
RULES = os.path.join(SOURCE, "deploy/prometheus/qfleet.rules.yml")
TESTS = os.path.join(SOURCE, "tests/deploy/rules_test.yml")
SKIPPED = 77


def read(path):
  with open(os.path.join(SOURCE, path), encoding="utf-8") as file:
    return file.read()


def alerts():
  """The text of each alert, by its name."""
  parts = re.split(r"^      - (?=alert: |record: )", read(RULES),
                   flags=re.MULTILINE)
  found = {}
  for part in parts:
    match = re.match(r"alert: (\w+)\n", part)
    if match:
      found[match.group(1)] = part
  return found


def anchors(text):
  """Of the headings of a page, as they are shown on the web."""
  return {
      re.sub(r"[^\w -]", "", title.strip().lower()).replace(" ", "-")
      for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
  }


class LocalTargetsTest(unittest.TestCase):

  def runs_of(self, *run_dirs):
    text = subprocess.run(
        [os.path.join(SOURCE, "deploy/prometheus/local_targets.py"), *run_dirs],
        check=True, capture_output=True, text=True).stdout
    return [group["labels"]["run"] for group in json.loads(text)]

  def test_runs_of_one_name_are_told_apart(self):
    with tempfile.TemporaryDirectory() as folder:
      runs = [os.path.join(folder, setting, "seed-1") for setting in "ab"]
      for run in runs:
        os.makedirs(os.path.join(run, "ready"))
        with open(os.path.join(run, "ready", "learner"), "w") as file:
          file.write("metrics 127.0.0.1:9\n")
      self.assertEqual(self.runs_of(runs[0]), ["seed-1"])
      self.assertEqual(self.runs_of(*runs, runs[0] + "/"),
                       ["a/seed-1", "b/seed-1"])


class RulesTest(unittest.TestCase):

  def promtool(self, *arguments):
    done = subprocess.run(["promtool", *arguments], capture_output=True,
                          text=True, check=False)
    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
    return done.stdout

  def test_promtool_accepts_rules_and_configs(self):
    self.assertIn("rules found", self.promtool("check", "rules", RULES))
    self.promtool("check", "config",
                  os.path.join(SOURCE, "deploy/prometheus/prometheus.yml"))

  def test_alerts_fire_when_they_should(self):
    self.promtool("test", "rules", TESTS)

  def test_what_is_promised_is_there(self):
    self.assertLessEqual({
        "QfleetLearnerStalled", "QfleetLearnerWaitsForReplay",
        "QfleetReplayBelowMinimum", "QfleetSamplesPerInsertOutOfBand",
        "QfleetWeightsStale", "QfleetShardDown", "QfleetUpdatesNotFinite",
        "QfleetPriorityWriteBackBehind", "QfleetDiskNearlyFull",
        "QfleetMemoryNearlyFull"
    }, set(alerts()))

  def test_each_alert_has_words_a_runbook_and_a_test(self):
    tests = read(TESTS)
    for name, text in alerts().items():
      with self.subTest(name):
        self.assertRegex(text, r"\n        for: \d+[smh]\n")
        self.assertRegex(text, r"\n          severity: (critical|warning)\n")
        self.assertRegex(text, r'\n          summary: ".+"\n')
        self.assertRegex(text, r"\n          description: >-\n            \w")
        runbook = re.search(r'\n          runbook: "([^#"]+)#([^"]+)"\n', text)
        self.assertTrue(runbook)
        self.assertIn(runbook.group(2), anchors(read(runbook.group(1))))
        self.assertIn(name, tests)


if __name__ == "__main__":
  if shutil.which("promtool") is None:
    print("skipped: no promtool here (Debian: prometheus)")
    sys.exit(SKIPPED)
  unittest.main(argv=sys.argv[:1])

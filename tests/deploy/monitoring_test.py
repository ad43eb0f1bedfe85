#!/usr/bin/env python3
"""The dashboard and the rules against a real Prometheus and a real run.

    tests/deploy/monitoring_test.py SOURCE_DIR BIN_DIR

Starts `qfleet train` and a Prometheus on loopback that scrapes it every second,
and waits until every query of the dashboard and every recording rule returns
numbers. Every metric that a rule or the dashboard names must exist. Python's
standard library only. Exits with 77 ("skipped") where there is no Prometheus.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

SOURCE = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else ".")
BIN = os.path.abspath(
    sys.argv[2] if len(sys.argv) > 2 else os.path.join(SOURCE,
                                                       "build/release/bin"))
SKIPPED = 77
DEADLINE = 180.0  # Seconds for anything that is waited for.
POLL = 0.2

# As Grafana would fill them in, for a scrape every second.
VARIABLES = {"$__rate_interval": "5s", "$run": ".*"}

PROMETHEUS_YML = """
global:
  scrape_interval: 1s
  evaluation_interval: 1s
rule_files:
  - {rules}
scrape_configs:
  - job_name: qfleet
    file_sd_configs:
      - files: ["{targets}"]
        refresh_interval: 1s
"""

# Words of PromQL that look like the name of a metric.
NAME = re.compile(
    r"\b((?:qfleet_|process_|grpc_server_|run:|run_table:)[a-z0-9_:]+|up)\b")


def wait_for(what, condition):
  """Polls until `condition()` is true; gives its value."""
  end = time.monotonic() + DEADLINE
  while True:
    value = condition()
    if value:
      return value
    if time.monotonic() > end:
      raise AssertionError(f"not within {DEADLINE:.0f} s: {what()}")
    time.sleep(POLL)


def free_port():
  with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    return listener.getsockname()[1]


def stop(process):
  """As a person would, and for good after a while."""
  if process.poll() is not None:
    return
  process.send_signal(signal.SIGTERM)
  try:
    process.wait(60)
  except subprocess.TimeoutExpired:
    process.kill()
    process.wait()


def dashboard():
  with open(os.path.join(SOURCE, "deploy/grafana/qfleet.json"),
            encoding="utf-8") as file:
    return json.load(file)


def panels(board):
  """All but rows, whether a row is collapsed or not."""
  for panel in board["panels"]:
    if panel["type"] != "row":
      yield panel
    yield from panel.get("panels", [])


def queries(board):
  """[(where, PromQL)] of all panels, with the variables filled in."""
  found = []
  for panel in panels(board):
    for target in panel["targets"]:
      expr = target["expr"]
      for variable, value in VARIABLES.items():
        expr = expr.replace(variable, value)
      found.append((f'{panel["title"]} {target["refId"]}', expr))
  return found


class DashboardTest(unittest.TestCase):
  """What needs no Prometheus."""

  def test_is_what_grafana_can_provision(self):
    board = dashboard()
    self.assertEqual(board["uid"], "qfleet-run")
    self.assertNotIn("id", board)
    variables = {v["name"]: v for v in board["templating"]["list"]}
    self.assertEqual(variables["datasource"]["type"], "datasource")
    self.assertEqual(
        [p["title"] for p in board["panels"] if p["type"] == "row"],
        ["The run", "Replay", "Learner", "Actors", "Processes"])
    ids = [p["id"] for p in board["panels"]]
    self.assertEqual(len(ids), len(set(ids)))
    for panel in panels(board):
      with self.subTest(panel["title"]):
        self.assertEqual(panel["datasource"]["uid"], "${datasource}")
        self.assertTrue(panel["targets"])
        for target in panel["targets"]:
          self.assertEqual(target["datasource"]["uid"], "${datasource}")

  def test_panels_do_not_overlap(self):
    taken = {}
    for panel in dashboard()["panels"]:
      at = panel["gridPos"]
      self.assertLessEqual(at["x"] + at["w"], 24, panel["title"])
      for x in range(at["x"], at["x"] + at["w"]):
        for y in range(at["y"], at["y"] + at["h"]):
          self.assertNotIn((x, y), taken, panel["title"])
          taken[x, y] = panel["title"]

  def test_no_variable_is_left(self):
    for where, expr in queries(dashboard()):
      self.assertNotIn("$", expr, where)


class MonitoringTest(unittest.TestCase):

  @classmethod
  def setUpClass(cls):
    cls.folder = tempfile.mkdtemp(prefix="qfleet-monitoring-")
    cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
    cls.run_dir = os.path.join(cls.folder, "run")
    cls.train = cls.start("train", [
        os.path.join(BIN, "qfleet"), "train",
        os.path.join(SOURCE, "configs/cartpole.txtpb"),
        f"--run_dir={cls.run_dir}",
        "--set=stop.mean_return=1000000",  # Until it is stopped.
        "--set=stop.max_env_steps=0",
        "--set=actors.relays=1",
        "--set=replay.min_items=200",
        "--set=replay.sync_interval=1",
        "--set=learner.checkpoint_period=1000",
    ])
    targets = os.path.join(cls.folder, "targets.json")
    config = os.path.join(cls.folder, "prometheus.yml")
    with open(config, "w", encoding="utf-8") as file:
      file.write(PROMETHEUS_YML.format(
          rules=os.path.join(SOURCE, "deploy/prometheus/qfleet.rules.yml"),
          targets=targets))
    # 2 shards, 2 actors, evaluator, learner, relay.
    wait_for(cls.explain, lambda: cls.write_targets(targets) == 7)
    cls.address = f"127.0.0.1:{free_port()}"
    cls.prometheus = cls.start("prometheus", [
        "prometheus", f"--config.file={config}",
        f"--storage.tsdb.path={cls.folder}/data",
        f"--web.listen-address={cls.address}"
    ])
    wait_for(cls.explain, lambda: cls.number_up() == 7)

  @classmethod
  def start(cls, name, command):
    with open(os.path.join(cls.folder, name + ".log"), "wb") as log:
      process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                 stderr=subprocess.STDOUT)
    cls.addClassCleanup(stop, process)
    return process

  @classmethod
  def explain(cls):
    """What the two programs said at last."""
    text = ""
    for name in ("train", "prometheus"):
      path = os.path.join(cls.folder, name + ".log")
      if os.path.exists(path):
        with open(path, encoding="utf-8", errors="replace") as file:
          text += f"\n{name}:\n" + "".join(file.readlines()[-5:])
    return text

  @classmethod
  def write_targets(cls, path):
    """How many targets there are."""
    if cls.train.poll() is not None:
      raise AssertionError("qfleet train has ended: " + cls.explain())
    if not os.path.isdir(os.path.join(cls.run_dir, "ready")):
      return 0
    text = subprocess.run(
        [os.path.join(SOURCE, "deploy/prometheus/local_targets.py"),
         cls.run_dir],
        check=True, capture_output=True, text=True).stdout
    with open(path + ".tmp", "w", encoding="utf-8") as file:
      file.write(text)
    os.rename(path + ".tmp", path)
    return len(json.loads(text))

  @classmethod
  def get(cls, path, **parameters):
    """What the HTTP API answers; an exception with its words. OSError while
    it is not ready."""
    url = f"http://{cls.address}/api/v1/{path}?" + urllib.parse.urlencode(
        parameters)
    # No proxy: this is loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
      with opener.open(url, timeout=30) as answer:
        return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
      if error.code == 503:
        raise
      raise AssertionError(f"{parameters}: {error.read().decode()}") from error

  @classmethod
  def number_up(cls):
    try:
      return len([
          target for target in cls.get("targets")["activeTargets"]
          if target["health"] == "up"
      ])
    except OSError:
      return 0

  def numbers(self, expr):
    """Whether the query returns some, not only NaN."""
    return any(sample["value"][1] != "NaN"
               for sample in self.get("query", query=expr)["result"])

  def rules(self):
    return [rule for group in self.get("rules")["groups"]
            for rule in group["rules"]]

  def test_every_query_of_the_dashboard_returns_data(self):
    left = queries(dashboard())
    self.assertGreater(len(left), 60)

    def none_left():
      left[:] = [(where, expr) for where, expr in left
                 if not self.numbers(expr)]
      return not left

    wait_for(lambda: f"no data: {left}{self.explain()}", none_left)

  def test_every_rule_is_evaluated(self):
    wait_for(lambda: self.rules(), lambda: all(
        rule["health"] == "ok" for rule in self.rules()))
    # This one is there only while something is wrong.
    records = [rule["name"] for rule in self.rules()
               if rule["type"] == "recording" and "too_few" not in rule["name"]]
    self.assertTrue(records)
    wait_for(lambda: [r for r in records if not self.numbers(r)],
             lambda: all(self.numbers(record) for record in records))

  def test_every_metric_that_is_named_exists(self):
    known = set(self.get("label/__name__/values"))
    known |= {rule["name"] for rule in self.rules()}
    exprs = queries(dashboard())
    exprs += [(rule["name"], rule["query"]) for rule in self.rules()]
    for where, expr in exprs:
      names = NAME.findall(expr)
      self.assertTrue(names, f"{where}: {expr}")
      for name in names:
        self.assertIn(name, known, where)

  def test_nothing_fires_in_a_healthy_run(self):
    self.assertEqual([
        alert["labels"] for alert in self.get("alerts")["alerts"]
        if alert["state"] == "firing"
    ], [])


if __name__ == "__main__":
  if shutil.which("prometheus") is None:
    print("skipped: no prometheus here (Debian: prometheus)")
    sys.exit(SKIPPED)
  unittest.main(argv=sys.argv[:1])

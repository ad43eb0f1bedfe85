#!/usr/bin/env python3
"""Prints where the processes of local runs serve their metrics.

    deploy/prometheus/local_targets.py RUN_DIR... >targets/NAME.json

in the form of Prometheus' file_sd_configs, with the labels that the rules and
the dashboard use: `component` (replay, actor, evaluator, learner, relay, solo)
and `run`, the name of the run directory, with as many of the folders above it
as tell the runs given here apart. Each process of `qfleet train` takes a free
port and tells it in RUN_DIR/ready; one that is restarted takes another, so run
this again then. Python's standard library only.
"""

import json
import os
import re
import sys


def metrics_address(path):
  """The address in a ready file; None if it has none."""
  with open(path, encoding="utf-8") as file:
    match = re.search(r"^metrics (\S+)$", file.read(), re.MULTILINE)
  return match.group(1) if match else None


def names_of(run_dirs):
  """The shortest ends of the paths that are all different."""
  paths = [os.path.abspath(run_dir).split(os.sep) for run_dir in run_dirs]
  for parts in range(1, max(map(len, paths)) + 1):
    names = [os.sep.join(path[-parts:]) for path in paths]
    if len(set(names)) == len(names):
      break
  return names


def targets_of(run_dir, run):
  """A list of target groups, one a process, by name."""
  ready = os.path.join(run_dir, "ready")
  groups = []
  for name in sorted(os.listdir(ready)):
    # "replay-0", "learner", "learner-1"; not a file that is being written.
    match = re.fullmatch(r"(replay|actor|evaluator|learner|relay|solo)(-\d+)?",
                         name)
    address = match and metrics_address(os.path.join(ready, name))
    if not address:
      continue
    groups.append({
        "targets": [address],
        "labels": {
            "component": match.group(1),
            "instance": name,
            "run": run,
        },
    })
  return groups


def main(run_dirs):
  if not run_dirs or run_dirs[0].startswith("-"):
    print(__doc__, file=sys.stderr)
    return 2
  groups = []
  run_dirs = list(dict.fromkeys(map(os.path.abspath, run_dirs)))
  for run_dir, run in zip(run_dirs, names_of(run_dirs)):
    try:
      groups += targets_of(run_dir, run)
    except OSError as error:
      print(f"local_targets.py: {error}: allowed is the directory of a run of "
            "`qfleet train`", file=sys.stderr)
      return 2
  json.dump(groups, sys.stdout, indent=2)
  print()
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))

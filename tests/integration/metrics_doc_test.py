#!/usr/bin/env python3
"""docs/metrics.md is what the processes of a run export, neither less nor more.

    metrics_doc_test.py SOURCE_DIR BIN_DIR [--update]

--update writes the file instead.
"""

import difflib
import json
import os
import sys

import live_run

# Of a process: the metrics that only it has begin so.
PROCESSES = {
    "replay-0": ("Replay shard", ["qfleet_replay_"]),
    "learner": ("Learner", ["qfleet_learner_", "qfleet_sampler_"]),
    "actor-0": ("Actor", ["qfleet_actor_"]),
    "evaluator": ("Evaluator", ["qfleet_evaluator_"]),
    "relay-0": ("Relay", ["qfleet_relay_"]),
}

QUESTIONS = [
    ("Is it learning?", [
        "qfleet_learner_evaluation_mean_return", "qfleet_learner_loss",
        "qfleet_learner_mean_q", "qfleet_learner_gradient_norm"]),
    ("Is it fast?", [
        "qfleet_learner_updates_total", "qfleet_learner_env_steps_total",
        "qfleet_actor_env_steps_total", "qfleet_replay_append_seconds",
        "qfleet_replay_sample_seconds"]),
    ("Who waits for whom?", [
        "qfleet_learner_replay_wait_ratio",
        "qfleet_learner_limiter_balance_ratio",
        "qfleet_sampler_wait_seconds_total", "qfleet_replay_waiting",
        "qfleet_replay_wait_seconds_total",
        "qfleet_actor_writer_wait_seconds_total"]),
    ("Is anything lost, late or skipped?", [
        "qfleet_actor_items_dropped_total", "qfleet_actor_steps_dropped_total",
        "qfleet_actor_episodes_lost_total", "qfleet_replay_items_skipped_total",
        "qfleet_sampler_priorities_dropped_total",
        "qfleet_learner_updates_skipped_total", "grpc_server_handled_total"]),
]

# By the end of the name; the first that fits.
UNITS = [
    ("_timestamp_seconds", "Unix time, s"),
    ("process_start_time_seconds", "Unix time, s"),
    ("_seconds", "s"),
    ("_seconds_total", "s"),
    ("_bytes", "bytes"),
    ("_bytes_total", "bytes"),
    ("_balance_ratio", "-1 to 1, or beyond"),
    ("_per_insert_ratio", "samples per item"),
    ("_target_ratio", "samples per item"),
    ("_ratio", "0 to 1"),
    ("_tolerance", "samples"),
    ("_return", "return"),
    ("_mean_q", "return"),
    ("_loss", "loss"),
    ("_gradient_norm", "norm"),
    ("_version", "version"),
    ("_mass", "mass"),
    ("_info", "1"),
    ("_connected", "count"),
    ("_failed", "0 or 1"),
    ("_total", "count"),
    ("_items", "count"),
    ("_steps", "count"),
    ("_shards", "count"),
    ("_actors", "count"),
    ("_subscribers", "count"),
    ("_pending", "count"),
    ("_waiting", "count"),
    ("_fds", "count"),
]
SHOWN_VALUES = ("side", "result")  # Labels whose values are few and ours.


def unit_of(name):
    for end, unit in UNITS:
        if name.endswith(end):
            return unit
    raise AssertionError(
        f"{name}: its name has no unit; allowed ends: {[e for e, _ in UNITS]}")


def metrics_of(address, prefixes):
    """{name: metric} once the process has its own metrics."""

    def ask():
        status = json.loads(live_run.get(address, "/status.json"))
        metrics = {metric["name"]: metric for metric in status["metrics"]}
        own = [any(name.startswith(prefix) for name in metrics)
               for prefix in prefixes]
        return metrics if all(own) else None

    live_run.wait_for(ask, 60, f"metrics {prefixes} of {address}")
    return ask()  # All that were being added then.


def labels_of(metric):
    labels = {}
    for sample in metric["samples"]:
        for name, value in sample.get("labels", {}).items():
            labels.setdefault(name, set()).add(value)
    return ", ".join(
        name + (f" ({', '.join(sorted(labels[name]))})"
                if name in SHOWN_VALUES else "") for name in sorted(labels))


def table(metrics):
    lines = ["| metric | type | unit | labels | meaning |",
             "| --- | --- | --- | --- | --- |"]
    for name in sorted(metrics):
        metric = metrics[name]
        lines.append(f"| `{name}` | {metric['type']} | {unit_of(name)} | "
                     f"{labels_of(metric)} | {metric['help']} |")
    return lines


def document(processes):
    shared = set.intersection(*(set(m) for m in processes.values()))
    servers = {name for metrics in processes.values() for name in metrics
               if name.startswith("grpc_")}
    lines = [
        "# Metrics", "",
        "What each process serves at `/metrics`. Made from the code by "
        "`tests/integration/metrics_doc_test.py --update`; a test compares it.",
        "",
        "Counters begin at 0 with a process, or where its checkpoint or files "
        "had them, and never fall while it lives. No label says which process: "
        "Prometheus' `instance` does.", "", "## By question", ""]
    known = {name for metrics in processes.values() for name in metrics}
    for question, names in QUESTIONS:
        assert set(names) <= known, set(names) - known
        lines.append(f"- **{question}** " +
                     ", ".join(f"`{name}`" for name in names))
    lines += ["", "What to be told of are the alerts in "
              "`deploy/prometheus/qfleet.rules.yml`;",
              "[monitoring.md](monitoring.md) says of each what it means and "
              "what to do."]
    lines += ["", "## Every process", ""]
    lines += table({name: processes["learner"][name] for name in shared})
    lines += ["", "## gRPC servers: shard, learner, relay", ""]
    lines += table({name: processes["learner"][name] for name in servers})
    for process, (title, _) in PROCESSES.items():
        lines += ["", f"## {title}", ""]
        lines += table({name: metric
                        for name, metric in processes[process].items()
                        if name not in shared and name not in servers})
    return "\n".join(lines) + "\n"


def main():
    source, binaries = sys.argv[1:3]
    config = os.path.join(source, "configs", "cartpole.txtpb")
    with live_run.LiveRun(binaries, config,
                          ["actors.relays=1", "replay.shards=1",
                           "actors.count=1", "stop.mean_return=1e9"]) as run:
        processes = {name: metrics_of(run.address(name), prefixes)
                     for name, (_, prefixes) in PROCESSES.items()}
    wanted = document(processes)
    path = os.path.join(source, "docs", "metrics.md")
    if "--update" in sys.argv:
        with open(path, "w") as file:
            file.write(wanted)
        return 0
    found = ""
    if os.path.exists(path):
        with open(path) as file:
            found = file.read()
    difference = list(difflib.unified_diff(
        found.splitlines(), wanted.splitlines(), "docs/metrics.md",
        "the processes", lineterm=""))
    print("\n".join(difference) or "docs/metrics.md: as the processes have it")
    return 1 if difference else 0


if __name__ == "__main__":
    sys.exit(main())

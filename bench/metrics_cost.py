#!/usr/bin/env python3
"""What being scraped costs the processes of a run, in CPU time.

    bench/metrics_cost.py [SCRAPES]     default 500

Starts a `qfleet train` on this machine, reads the /metrics of each process
SCRAPES times one after another while it works, and adds up the CPU time of the
threads that answer, from the kernel (/proc/PID/task/*/schedstat). Prints a
table in Markdown: of a core, at a scrape every 5 s (deploy/prometheus) and
every second. Counters of the work itself are kept for the reports anyway, or
are counted where `grpc_metrics_benchmark` measures them.
"""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))
import live_run  # noqa: E402

PROCESSES = ["replay-0", "actor-0", "learner", "evaluator"]
SECONDS = [5, 1]


def listener(port):
    """The process that listens on this port of the loopback."""
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    sockets = {f"socket:[{row[9]}]" for row in rows
               if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}") in sockets:
                    return int(pid)
        except OSError:
            continue  # Ended, or not ours.
    raise AssertionError(f"nobody listens on port {port}")


def answering_seconds(pid):
    """CPU time of the threads of the status server."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        folder = f"/proc/{pid}/task/{thread}"
        with open(f"{folder}/comm") as name:
            if not name.read().startswith("civetweb"):
                continue
        with open(f"{folder}/schedstat") as schedule:
            total += int(schedule.read().split()[0])
    return total / 1e9


def main():
    scrapes = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    binaries = os.path.join(ROOT, "build", "release", "bin")
    config = os.path.join(ROOT, "configs", "cartpole.txtpb")
    heads = [f"of a core, every {s} s" for s in SECONDS]
    print(f"| process | CPU us a scrape | bytes | {' | '.join(heads)} |")
    print("| --- " * (3 + len(heads)) + "|")
    with live_run.LiveRun(binaries, config,
                          ["stop.mean_return=1e9", "actors.count=1"]) as run:
        # The evaluator's is the last to serve.
        addresses = {name: run.address(name) for name in PROCESSES}
        for name, address in addresses.items():
            pid = listener(int(address.rsplit(":", 1)[1]))
            size = len(live_run.get(address, "/metrics"))
            before = answering_seconds(pid)
            for _ in range(scrapes):
                live_run.get(address, "/metrics")
            each = (answering_seconds(pid) - before) / scrapes
            shares = [f"{100 * each / s:.4f} %" for s in SECONDS]
            print(f"| {name} | {1e6 * each:.0f} | {size} | "
                  f"{' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# How fast, and how surely, CartPole is solved: `qfleet train` as a cluster and
# with --solo, seeds 1 to N. Prints a table in Markdown and writes
# build/release/bench/cartpole.json.
#
#   bench/cartpole.sh [SEEDS]     default 5
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT
readonly SEEDS=${1:-5}
readonly OUT=${ROOT}/build/release/bench

mkdir -p "${OUT}"
runs=$(mktemp -d)
trap 'rm -rf "${runs}"' EXIT

for mode in cluster solo; do
  for seed in $(seq "${SEEDS}"); do
    flags=()
    [[ ${mode} == cluster ]] || flags=(--solo)
    name=${mode}-${seed}
    echo "${name} ..." >&2
    begin=$(date +%s.%N)
    code=0
    "${ROOT}/build/release/bin/qfleet" train "${ROOT}/configs/cartpole.txtpb" \
      --run_dir="${runs}/${name}" --set="seed=${seed}" "${flags[@]}" \
      >"${runs}/${name}.txt" 2>&1 || code=$?
    end=$(date +%s.%N)
    echo "${mode} ${seed} ${code} ${begin} ${end}" >>"${runs}/runs.txt"
  done
done

python3 - "${runs}" "${OUT}/cartpole.json" <<'PYTHON'
import json
import os
import platform
import statistics
import sys
import time

folder, out = sys.argv[1:]
rows = []
for line in open(f"{folder}/runs.txt"):
    mode, seed, code, begin, end = line.split()
    path = f"{folder}/{mode}-{seed}/metrics.jsonl"
    last = json.loads(open(path).readlines()[-1]) if os.path.exists(path) else {}
    evaluation = last.get("evaluation", {})
    rows.append({
        "mode": mode, "seed": int(seed), "exit_code": int(code),
        "mean_return": evaluation.get("mean_return"),
        "wall_seconds": float(end) - float(begin),
        "env_steps": last.get("env_steps"), "updates": last.get("updates"),
    })
cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo")
            if l.startswith("model name")), platform.machine())
machine = f"{cpu}, {os.cpu_count()} cores"
print(f"{time.strftime('%Y-%m-%d')}, {machine}\n")
print("| mode | seed | reached | mean return | wall s | env steps | updates |")
print("| --- | --- | --- | --- | --- | --- | --- |")
for row in rows:
    reached = "yes" if row["exit_code"] == 0 else f"no (exit {row['exit_code']})"
    print(f"| {row['mode']} | {row['seed']} | {reached} | {row['mean_return']} "
          f"| {row['wall_seconds']:.1f} | {row['env_steps']:,} "
          f"| {row['updates']:,} |")
for mode in ("cluster", "solo"):
    mine = [row for row in rows if row["mode"] == mode]
    print(f"| **{mode}** | median | "
          f"{sum(r['exit_code'] == 0 for r in mine)} of {len(mine)} | | "
          f"{statistics.median(r['wall_seconds'] for r in mine):.1f} | "
          f"{statistics.median(r['env_steps'] for r in mine):,.0f} | "
          f"{statistics.median(r['updates'] for r in mine):,.0f} |")
json.dump({"date": time.strftime("%Y-%m-%d"), "machine": machine,
           "rows": rows}, open(out, "w"), indent=1)
sys.exit(any(row["exit_code"] != 0 for row in rows))
PYTHON

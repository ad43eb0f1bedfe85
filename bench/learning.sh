#!/usr/bin/env bash
# What the algorithms learn on the small environments: each setting
# configs/learning/ENVIRONMENT_*.txtpb with seeds 1 to SEEDS, `qfleet train
# --solo`, AT_A_TIME (an environment variable, default 2) runs at a time. Prints a table in Markdown; writes learning.json,
# the runs (SETTING/seed-N) and a chart for each environment (ENVIRONMENT.svg:
# `qfleet plot --group`) to build/release/bench/learning. The settings of an
# environment differ in their algorithm alone.
#
# asterix, breakout, freeway, seaquest and space_invaders are MinAtar's: a
# million steps each, half an hour of a core for each seed.
#
#   bench/learning.sh [SEEDS [ENVIRONMENT...]]     default 5 cartpole catch
#
# Exit code 1 if a run failed. One that did not reach its target has not failed:
# the table says so.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT
readonly SEEDS=${1:-5}
readonly OUT=${ROOT}/build/release/bench/learning
readonly BIN=${ROOT}/build/release/bin
readonly AT_A_TIME=${AT_A_TIME:-2}

usage() {
  echo "learning.sh: $1" >&2
  exit 2
}

[[ ${SEEDS} =~ ^[1-9][0-9]*$ ]] ||
  usage "SEEDS = \"${SEEDS}\": allowed is a number from 1 on"
shift $(($# > 0 ? 1 : 0))
environments=("$@")
[[ $# -gt 0 ]] || environments=(cartpole catch)

settings=()
for environment in "${environments[@]}"; do
  configs=("${ROOT}/configs/learning/${environment}"_*.txtpb)
  [[ -e ${configs[0]} ]] || usage "ENVIRONMENT = \"${environment}\": allowed is \
one of which there are configs/learning/ENVIRONMENT_*.txtpb"
  for config in "${configs[@]}"; do
    settings+=("$(basename "${config}" .txtpb)")
  done
done

# SETTING SEED: leaves what the run printed in logs/SETTING-N.txt and its exit
# code, begin and end (Unix time) in logs/SETTING-N.end.
run() {
  local run_dir=${OUT}/$1/seed-$2 log=${OUT}/logs/$1-$2
  local code=0 begin=${EPOCHREALTIME}
  echo "$1, seed $2 ..." >&2
  "${BIN}/qfleet" train "${ROOT}/configs/learning/$1.txtpb" --solo \
    --run_dir="${run_dir}" --set="seed=$2" >"${log}.txt" 2>&1 || code=$?
  echo "${code} ${begin} ${EPOCHREALTIME}" >"${log}.end"
}
export -f run
export ROOT OUT BIN AT_A_TIME
export LC_ALL=C

mkdir -p "${OUT}/logs"
for setting in "${settings[@]}"; do
  rm -rf "${OUT:?}/${setting}"
  mkdir "${OUT}/${setting}"
done
for seed in $(seq "${SEEDS}"); do
  printf "%s ${seed}\n" "${settings[@]}"
done | xargs -L1 -P"${AT_A_TIME}" bash -c 'run "$@"' run

for environment in "${environments[@]}"; do
  runs=()
  for evaluated in $(grep -ls '"evaluation"' \
    "${OUT}/${environment}"_*/seed-*/metrics.jsonl | sort -V); do
    runs+=("$(dirname "${evaluated}")")
  done
  [[ ${#runs[@]} -eq 0 ]] || "${BIN}/qfleet" plot "${runs[@]}" --group \
    --title="${environment}, seeds: ${SEEDS}" \
    --output="${OUT}/${environment}.svg" >&2
done

python3 - "${OUT}" "${ROOT}/configs/learning" "${SEEDS}" "${settings[@]}" <<'PYTHON'
import json
import math
import os
import platform
import statistics
import sys
import time

out, configs, seeds, *settings = sys.argv[1:]


def has_target(setting):
    stop = open(f"{configs}/{setting}.txtpb").read().split("stop {")[-1]
    return "mean_return:" in stop.split("}")[0]


def read_run(setting, seed):
    path = f"{out}/{setting}/seed-{seed}"
    log = f"{out}/logs/{setting}-{seed}"
    code, begin, end = open(f"{log}.end").read().split()
    run = {"setting": setting, "seed": seed, "exit_code": int(code),
           "reached": code == "0" and has_target(setting),
           "wall_seconds": float(end) - float(begin)}
    lines = []
    if os.path.exists(f"{path}/metrics.jsonl"):
        lines = open(f"{path}/metrics.jsonl").readlines()
    if lines:
        last = json.loads(lines[-1])
        run["env_steps"] = last.get("env_steps")
        run["updates"] = last.get("updates")
        if "evaluation" in last:
            run["mean_return"] = last["evaluation"].get("mean_return", 0)
            run["env_steps_of_evaluation"] = last["evaluation"]["env_steps"]
    if int(code) not in (0, 3):
        printed = open(f"{log}.txt").read().strip().splitlines()
        run["error"] = printed[-1] if printed else "no output"
    return run


def median(values):
    return statistics.median(values) if values else None


def summary(setting, runs):
    done = [run for run in runs if "error" not in run]
    returns = [run["mean_return"] for run in done if "mean_return" in run]
    # A run that did not get there is later than all that did.
    steps = median([run["env_steps_of_evaluation"] if run["reached"]
                    else math.inf for run in done])
    return {
        "setting": setting, "seeds": len(runs),
        "reached": sum(run["reached"] for run in runs),
        "failed": len(runs) - len(done),
        "median_env_steps_to_target":
            steps if steps is not None and math.isfinite(steps) else None,
        "final_mean_return": {
            "median": median(returns), "least": min(returns, default=None),
            "most": max(returns, default=None)},
        "median_wall_seconds": median([run["wall_seconds"] for run in done]),
    }


def text(value, form):
    return "-" if value is None else format(value, form)


cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo")
            if line.startswith("model name")), platform.machine())
machine = f"{cpu}, {os.cpu_count()} cores"
date = time.strftime("%Y-%m-%d")
runs = [read_run(setting, seed) for setting in settings
        for seed in range(1, int(seeds) + 1)]
print(f"{date}, {machine}, {os.environ['AT_A_TIME']} runs at a time\n")
print("| setting | seeds that reached the target | env steps to it, median "
      "| final mean return: median | least | most | wall s, median |")
print("| --- | --- | --- | --- | --- | --- | --- |")
summaries = []
for setting in settings:
    row = summary(setting, [run for run in runs if run["setting"] == setting])
    summaries.append(row)
    reached = "-"  # There is nothing to reach.
    if has_target(setting):
        reached = f"{row['reached']} of {row['seeds']}"
    if row["failed"]:
        reached += f", {row['failed']} failed"
    steps = row["median_env_steps_to_target"]
    late = "not reached"
    if row["failed"] == row["seeds"] or not has_target(setting):
        late = "-"
    final = row["final_mean_return"]
    print(f"| {setting} | {reached} "
          f"| {late if steps is None else format(steps, ',.0f')} "
          f"| {text(final['median'], '.3g')} | {text(final['least'], '.3g')} "
          f"| {text(final['most'], '.3g')} "
          f"| {text(row['median_wall_seconds'], '.1f')} |")
failed = [run for run in runs if "error" in run]
if failed:
    print()
for run in failed:
    print(f"{run['setting']}, seed {run['seed']}: exit code "
          f"{run['exit_code']}: {run['error']}")
with open(f"{out}/learning.json", "w") as file:
    json.dump({"date": date, "machine": machine, "settings": summaries,
               "runs": runs}, file, indent=1)
sys.exit(1 if failed else 0)
PYTHON

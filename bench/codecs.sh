#!/usr/bin/env bash
# What the forms of the weights change for an actor: bytes, greedy actions,
# return. Prints a table in Markdown and writes build/release/bench/codecs.json.
# What making and reading each form takes: build/release/bin/codec_benchmark.
#
#   bench/codecs.sh              CartPole, trained with --solo, seeds 1 to 5
#   bench/codecs.sh RUN_DIR...   the newest checkpoint of each
#   EPISODES=100 bench/codecs.sh
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT
readonly OUT=${ROOT}/build/release/bench
readonly EPISODES=${EPISODES:-50}

mkdir -p "${OUT}"
work=$(mktemp -d)
trap 'rm -rf "${work}"' EXIT
runs=("$@")
if [[ ${#runs[@]} == 0 ]]; then
  for seed in 1 2 3 4 5; do
    runs+=("${work}/cartpole-${seed}")
    echo "cartpole-${seed} ..." >&2
    "${ROOT}/build/release/bin/qfleet" train "${ROOT}/configs/cartpole.txtpb" \
      --solo --run_dir="${runs[-1]}" --set="seed=${seed}" >"${work}/log" 2>&1 ||
      { cat "${work}/log" >&2; exit 1; }
  done
fi
for run in "${runs[@]}"; do
  for codec in bf16 int8; do
    "${ROOT}/build/release/bin/qfleet" eval "${run}" --codec="${codec}" \
      --episodes="${EPISODES}" --json >>"${work}/results.jsonl"
  done
done

python3 - "${work}/results.jsonl" "${OUT}/codecs.json" <<'PYTHON'
import json
import os
import sys

rows = [json.loads(line) for line in open(sys.argv[1])]
print("| run | form | bytes of FP32 | same greedy action | value lost | return "
      "| FP32's return |")
print("| --- | --- | --- | --- | --- | --- | --- |")
for row in rows:
    row["run_dir"] = os.path.basename(row["run_dir"].rstrip("/"))
    print(f"| {row['run_dir']} | {row['codec']} | {row['byte_ratio']:.4f} "
          f"| {100 * row['agreement']:.2f} % | {100 * row['lost_value']:.4f} % "
          f"| {row['mean_return']:.2f} | {row['fp32_mean_return']:.2f} |")
json.dump(rows, open(sys.argv[2], "w"), indent=1)
PYTHON

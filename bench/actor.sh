#!/usr/bin/env bash
# What a core gives: environments stepped alone, and the actor's whole loop with
# a replay shard in another process; then Gymnasium's environments through the
# bridge beside gymnasium.vector, where scripts/setup.sh --gymnasium was run.
# Prints tables in Markdown and writes actor_benchmark.json and
# bridge_benchmark.json to build/release. Takes about three minutes.
#
#   bench/actor.sh [--rounds=N] [--round_seconds=S]
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT
readonly BUILD=${ROOT}/build/release

for benchmark in actor_benchmark bridge_benchmark; do
  [[ -x ${BUILD}/bin/${benchmark} ]] || {
    echo "actor.sh: no ${BUILD}/bin/${benchmark}: build it with cmake --build" \
      "--preset release --target ${benchmark}" >&2
    exit 1
  }
done
work=$(mktemp -d)
trap 'rm -rf "${work}"' EXIT
"${BUILD}/bin/actor_benchmark" --work_dir="${work}" \
  --out="${BUILD}/actor_benchmark.json" "$@"
if [[ -x ${ROOT}/.venv-gymnasium/bin/python ]]; then
  "${BUILD}/bin/bridge_benchmark" --script="${ROOT}/bench/gymnasium_vector.py" \
    --out="${BUILD}/bridge_benchmark.json" "$@"
else
  echo "actor.sh: the bridge is not measured: scripts/setup.sh --gymnasium" >&2
fi

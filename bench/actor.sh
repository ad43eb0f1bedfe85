#!/usr/bin/env bash
# What a core gives: environments stepped alone, and the actor's whole loop with
# a replay shard in another process. Prints tables in Markdown and writes
# build/release/actor_benchmark.json. Takes about a minute.
#
#   bench/actor.sh [FLAG...]    flags of actor_benchmark, e.g. --rounds=9
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT
readonly BENCHMARK=${ROOT}/build/release/bin/actor_benchmark

[[ -x ${BENCHMARK} ]] || {
  echo "actor.sh: no ${BENCHMARK}: build it with cmake --build" \
    "--preset release --target actor_benchmark" >&2
  exit 1
}
work=$(mktemp -d)
trap 'rm -rf "${work}"' EXIT
"${BENCHMARK}" --work_dir="${work}" \
  --out="${ROOT}/build/release/actor_benchmark.json" "$@"

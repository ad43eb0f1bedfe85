#!/usr/bin/env bash
# What many actors cost: 64 of them streaming into two shards, and 1,000
# subscribers of weights, directly and behind a relay. Prints tables in Markdown
# and writes build/release/scale_benchmark.json. Takes about two minutes.
#
#   bench/scale.sh [FLAG...]      flags of scale_benchmark, e.g. --rows=weights
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT

# A subscriber is an open file, here and there.
ulimit -n "$(ulimit -Hn)"
work=$(mktemp -d)
trap 'rm -rf "${work}"' EXIT

"${ROOT}/build/release/bin/scale_benchmark" --work_dir="${work}" \
  --out="${ROOT}/build/release/scale_benchmark.json" "$@"

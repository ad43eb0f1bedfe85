#!/usr/bin/env bash
# A replay shard beside raw gRPC, and what else is promised of it: throughput,
# restart, cost over shards, insert latency. Prints tables in Markdown and
# writes build/release/replay_benchmark.json. Takes four to five
# minutes. For throughput, cost and TLS clients have one half of the processors
# and servers the other, as on two machines; --no_split_cores leaves it to the
# scheduler.
#
#   bench/replay.sh [FLAG...]     flags of replay_benchmark, e.g.
#                                 --rows=sample_atari,append_small
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT

work=$(mktemp -d)
trap 'rm -rf "${work}"' EXIT
mkdir "${work}/data"

"${ROOT}/build/release/bin/replay_benchmark" --work_dir="${work}" \
  --data_dir="${work}/data" --out="${ROOT}/build/release/replay_benchmark.json" \
  "$@"

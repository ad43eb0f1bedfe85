#!/usr/bin/env bash
# What mutual TLS costs a replay shard: appends and samples with it and without
# it, over TCP on loopback, in one run. Prints tables in Markdown and writes
# build/release/security_benchmark.json. Takes about two minutes: a
# connection that was silent takes a while to find its pace, so that rounds are
# of a second.
#
#   bench/security.sh [FLAG...]     flags of replay_benchmark, e.g. --rounds=9
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT

work=$(mktemp -d)
trap 'rm -rf "${work}"' EXIT
"${ROOT}/scripts/make_test_certificates.sh" "${work}/certificates"

"${ROOT}/build/release/bin/replay_benchmark" --work_dir="${work}" \
  --certificates="${work}/certificates" \
  --rows=tls_append_atari,tls_append_small,tls_sample_atari,tls_sample_small \
  --round_seconds=1 --out="${ROOT}/build/release/security_benchmark.json" "$@"

#!/usr/bin/env bash
# Sets up, builds and trains.
#
#   scripts/quickstart.sh [--libtorch=...] [CONFIG [FLAG...]]
#
# CONFIG defaults to configs/cartpole.txtpb; the flags go to `qfleet train`.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT

setup=()
if [[ ${1:-} == --libtorch=* ]]; then
  setup=("$1")
  shift
fi
config=${1:-${ROOT}/configs/cartpole.txtpb}
shift $(($# > 0 ? 1 : 0))
if [[ ! -r ${config} ]]; then
  echo "scripts/quickstart.sh: ${config}: allowed is a config file that can be read" >&2
  exit 2
fi

"${ROOT}/scripts/setup.sh" "${setup[@]}"
cmake --build "${ROOT}/build/release" --target \
  qfleet qfleet-replay qfleet-actor qfleet-learner qfleet-solo
exec "${ROOT}/build/release/bin/qfleet" train "${config}" "$@"

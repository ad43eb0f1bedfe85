#!/usr/bin/env bash
# Builds the fuzz targets with clang and runs each for a while. What makes one
# fail is in build/fuzz/NAME/crash-...; the corpus grows in build/fuzz/NAME/corpus.
#
#   fuzz/run.sh SECONDS [NAME...]
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT
readonly BUILD=${ROOT}/build/fuzz

if [[ ! ${1:-} =~ ^[1-9][0-9]*$ ]]; then
  echo "fuzz/run.sh: '${1:-}': allowed is SECONDS [NAME...]" >&2
  exit 2
fi
if ! command -v clang++ >/dev/null; then
  echo "fuzz/run.sh: no clang++ here; Debian: apt-get install clang libclang-rt-dev" >&2
  exit 1
fi
seconds=$1
shift
names=("$@")
((${#names[@]} > 0)) || names=(append table_files config)

cd "${ROOT}"
[[ -f ${BUILD}/build.ninja ]] || cmake --preset fuzz >/dev/null
cmake --build --preset fuzz

# Files of a table in memory, if there is such a folder.
[[ ! -w /dev/shm ]] || export TMPDIR=/dev/shm
for name in "${names[@]}"; do
  mkdir -p "${BUILD}/${name}/corpus"
  echo "fuzzing ${name} for ${seconds} s"
  (cd "${BUILD}/${name}" && "${BUILD}/bin/${name}_fuzzer" \
    -max_total_time="${seconds}" -max_len=4096 -timeout=25 -rss_limit_mb=4096 \
    -print_final_stats=1 -verbosity=1 corpus "${ROOT}/fuzz/seeds/${name}" \
    2>fuzz.log) || {
    tail -n 60 "${BUILD}/${name}/fuzz.log" >&2
    echo "fuzz/run.sh: ${name} failed; the input is in ${BUILD}/${name}" >&2
    exit 1
  }
  grep -E "^(Done|stat::number_of_executed_units)" "${BUILD}/${name}/fuzz.log"
done

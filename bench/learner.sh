#!/usr/bin/env bash
# The learner beside PyTorch of the same version, in turn, one thread each:
# updates per second of the same update on the same batch; and the learner's
# loop with a replay shard over gRPC beside a batch in memory. Prints tables in
# Markdown and writes build/release/learner_benchmark.json. Takes about three
# minutes. Where there is a GPU and LibTorch is a CUDA build, also the update on it
# beside PyTorch as it comes, compiled, and compiled with CUDA graphs.
#
#   bench/learner.sh [FLAG...]    flags of learner_benchmark, e.g. --cases=mlp
#
# PYTHON names the Python to use; otherwise the first of these that has the
# LibTorch's version of PyTorch: python3, /usr/bin/python3, .venv/bin/python3,
# .venv-cuda/bin/python3.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT
readonly BENCHMARK=${ROOT}/build/release/bin/learner_benchmark

[[ -x ${BENCHMARK} ]] || {
  echo "learner.sh: no ${BENCHMARK}: build it with cmake --build" \
    "--preset release --target learner_benchmark" >&2
  exit 1
}
# "LibTorch 1.13.0, 1 thread"
version=$("${BENCHMARK}" --libtorch)
version=${version#LibTorch }
version=${version%%,*}

# PyTorch's numbers alone: Debian's calls itself 1.13.0a0, pip's 2.13.0+cpu.
torch_version() {
  "$1" -c 'import re, torch
print(re.match(r"[0-9.]*[0-9]", torch.__version__).group())' 2>/dev/null
}

python=
seen=
for candidate in ${PYTHON:-python3 /usr/bin/python3 "${ROOT}/.venv/bin/python3" "${ROOT}/.venv-cuda/bin/python3"}; do
  found=$(torch_version "${candidate}") || continue
  seen+=" ${candidate} has ${found};"
  if [[ ${found} == "${version}" ]]; then
    python=${candidate}
    break
  fi
done
[[ -n ${python} ]] || {
  echo "learner.sh: no Python with PyTorch ${version}, the version of LibTorch;${seen}" \
    "Debian's is in python3-torch: apt-get install -y --no-install-recommends" \
    "python3-torch (another Python: PYTHON=PATH bench/learner.sh)" >&2
  exit 1
}

work=$(mktemp -d)
trap 'rm -rf "${work}"' EXIT

"${BENCHMARK}" --python="${python}" --script="${ROOT}/bench/learner_torch.py" \
  --work_dir="${work}" --out="${ROOT}/build/release/learner_benchmark.json" "$@"

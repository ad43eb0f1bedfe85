#!/usr/bin/env bash
# Builds the learner against a CUDA build of LibTorch, on a machine that needs
# neither a GPU nor a CUDA toolkit, and shows what can be shown there: that it
# compiles and links, that the tests pass, and that a device that is not there is
# refused in words. Where there is one, it trains CartPole on it.
#
#   scripts/setup.sh --libtorch=cuda    # once: PyPI's CUDA build, in .venv-cuda
#   scripts/check_cuda_build.sh
#
# Not part of scripts/test.sh. The build is in build/cuda.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT
readonly BUILD=${ROOT}/build/cuda

(($# == 0)) || {
  echo "check_cuda_build.sh: $1: no argument is allowed" >&2
  exit 2
}
torch=$(compgen -G "${ROOT}/.venv-cuda/lib/python3*/site-packages/torch") || {
  echo "check_cuda_build.sh: no ${ROOT}/.venv-cuda: scripts/setup.sh" \
    "--libtorch=cuda makes it" >&2
  exit 1
}

cmake -S "${ROOT}" -B "${BUILD}" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_PREFIX_PATH="${torch}"
cmake --build "${BUILD}" --target qfleet-learner qfleet-solo learner_test \
  model_test

for library in libtorch_cuda.so libc10_cuda.so; do
  readelf -d "${BUILD}/bin/qfleet-learner" | grep -q "NEEDED.*${library}" || {
    echo "check_cuda_build.sh: qfleet-learner does not link ${library}" >&2
    exit 1
  }
done
echo "linked: qfleet-learner needs libtorch_cuda.so and libc10_cuda.so"
"${BUILD}/bin/model_test" --gtest_brief=1
"${BUILD}/bin/learner_test" --gtest_brief=1

work=$(mktemp -d)
trap 'rm -rf "${work}"' EXIT
solo=("${BUILD}/bin/qfleet-solo" --config="${ROOT}/configs/cartpole.txtpb"
  --run_dir="${work}/run" --set=learner.device=cuda)
if [[ -e /dev/nvidia0 ]]; then
  "${solo[@]}" --set=stop.max_updates=2000 || (($? == 3))
  echo "trained 2,000 updates on the GPU"
else
  if "${solo[@]}" 2>"${work}/said"; then
    echo "check_cuda_build.sh: without a GPU learner.device = cuda was taken" >&2
    exit 1
  fi
  grep "learner.device = cuda: allowed is cpu" "${work}/said"
  echo "no GPU here: nothing ran on one"
fi

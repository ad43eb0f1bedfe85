#!/usr/bin/env bash
# Builds the learner against a CUDA build of LibTorch, on a machine that needs
# neither a GPU nor a CUDA toolkit, and shows what can be shown there: that it
# compiles and links, that the tests pass, and that a device that is not there is
# refused in words. Where there is one, it trains CartPole on it.
#
#   scripts/check_cuda_build.sh [--wheels=DIR]
#
# --wheels  Where PyTorch's wheels are, or are downloaded to (2.5 GB, and 6 GB
#           unpacked beside them); build/cuda_wheels if not given.
#
# Not part of scripts/test.sh. The build is in build/cuda.
set -euo pipefail

# The CUDA packages that the wheel asks for, and the headers that these include.
readonly TORCH=torch==2.8.0
readonly NVIDIA=(
  cublas==12.8.4.1 cuda-cccl==12.8.90 cuda-cupti==12.8.90 cuda-nvcc==12.8.93
  cuda-nvrtc==12.8.93 cuda-runtime==12.8.90 cudnn==9.10.2.21 cufft==11.3.3.83
  cufile==1.13.1.3 curand==10.3.9.90 cusolver==11.7.3.90 cusparse==12.5.8.93
  cusparselt==0.7.1 nccl==2.27.3 nvjitlink==12.8.93 nvtx==12.8.90)

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT
readonly BUILD=${ROOT}/build/cuda

wheels=${ROOT}/build/cuda_wheels
for argument in "$@"; do
  case ${argument} in
    --wheels=?*) wheels=${argument#*=} ;;
    *)
      echo "check_cuda_build.sh: ${argument}: allowed is --wheels=DIR" >&2
      exit 2
      ;;
  esac
done
mkdir -p "${wheels}"
wheels=$(cd "${wheels}" && pwd)

# Several versions of Python have their own wheel of torch; only its headers and
# libraries are used, which are the same.
fetch() {  # REQUIREMENT STEM
  compgen -G "${wheels}/$2-*.whl" >/dev/null ||
    python3 -m pip download --disable-pip-version-check -q --no-deps \
      -d "${wheels}" "$1"
}
fetch "${TORCH}" torch
for package in "${NVIDIA[@]}"; do
  name=nvidia-${package%%==*}-cu12
  fetch "${name}==${package##*==}" "${name//-/_}"
done
readonly SITE=${wheels}/site
for wheel in "${wheels}"/*.whl; do
  done_file=${SITE}/.$(basename "${wheel}").unpacked
  [[ -e ${done_file} ]] && continue
  python3 -m zipfile -e "${wheel}" "${SITE}"
  touch "${done_file}"
done

cmake -S "${ROOT}" -B "${BUILD}" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_PREFIX_PATH="${SITE}/torch"
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

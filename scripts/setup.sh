#!/usr/bin/env bash
# Installs what the build needs (Debian packages) and configures build/release.
#
#   scripts/setup.sh [--libtorch=debian|pip|cuda|PATH] [--tests] [--browser]
#                    [--gymnasium]
#   scripts/setup.sh --packages[=replay]
#
# --libtorch  Debian's package (default), the one that pip installs into .venv,
#             PyPI's CUDA build, with the parts of CUDA that it needs, in
#             .venv-cuda (5 GB; the machine needs NVIDIA's driver, no toolkit),
#             or a folder that holds share/cmake/Torch. build/release keeps the
#             choice until another one is made.
# --tests     Also what only the tests need.
# --browser   Also Chromium (440 MB), for the tests of the status page, which are
#             skipped without it.
# --packages  Only installs the Debian packages, Debian's LibTorch among them;
#             with =replay those that qfleet-replay, qfleet-relay and qfleet
#             need, which is all but LibTorch.
# --gymnasium Also Gymnasium, ale-py and Box2D from PyPI in .venv-gymnasium, for
#             environment { gymnasium { ... } } (docs/environments.md).
set -euo pipefail

readonly PIP_TORCH=2.13.0
readonly CUDA_TORCH=2.11.0
readonly CUDA_HEADERS=(  # What its headers include beyond what it installs.
  "cuda-toolkit[cccl,crt,nvcc]==13.0.2")
readonly GYMNASIUM=(  # What was tested together.
  gymnasium==1.4.0 ale-py==0.12.1 box2d==2.3.10 numpy==2.4.6
  opencv-python-headless==5.0.0.93 protobuf==6.33.0 pygame-ce==2.5.8)
readonly PACKAGES=(
  build-essential ccache cmake git mold ninja-build
  libabsl-dev libbenchmark-dev libcivetweb-dev libcli11-dev libgloo-dev
  libgmock-dev libgrpc++-dev libgtest-dev libprotobuf-dev libspdlog-dev
  libssl-dev libtcmalloc-minimal4 libxxhash-dev libzstd-dev zlib1g-dev
  nlohmann-json3-dev prometheus-cpp-dev protobuf-compiler
  protobuf-compiler-grpc ca-certificates python3-venv)
# promtool checks the metrics. (Debian's package also starts a Prometheus where
# systemd runs, which only a test machine should have.)
# clang fuzzes (fuzz/run.sh).
readonly TEST_PACKAGES=(clang curl iproute2 libclang-rt-dev prometheus)
readonly BROWSER_PACKAGES=(chromium chromium-driver)
readonly TORCH_PACKAGES=(libtorch-dev libopenblas0-pthread)
readonly TOOLS=(c++ cmake ninja protoc grpc_cpp_plugin python3)

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT
readonly CACHE=${ROOT}/build/release/CMakeCache.txt

fail() {  # CODE MESSAGE
  echo "scripts/setup.sh: $2" >&2
  exit "$1"
}

# Prints the value of a variable in CMake's cache.
cached() {
  [[ ! -f ${CACHE} ]] || sed -n "s/^$1:[A-Z]*=//p" "${CACHE}"
}

# In Debian 13 some libraries have names that end in t64.
is_installed() {  # PACKAGE
  [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

install_packages() {
  if ! command -v apt-get dpkg-query >/dev/null; then
    local tool absent=()
    for tool in "${TOOLS[@]}"; do
      command -v "${tool}" >/dev/null || absent+=("${tool}")
    done
    ((${#absent[@]} == 0)) ||
      fail 1 "no apt-get here; install first: ${absent[*]}"
    return
  fi
  local package missing=()
  for package in "$@"; do
    is_installed "${package}" || is_installed "${package}t64" ||
      missing+=("${package}")
  done
  ((${#missing[@]} > 0)) || return 0
  local as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null ||
      fail 1 "neither root nor sudo; install first: ${missing[*]}"
    as_root=(sudo)
  fi
  echo "Installing ${missing[*]}"
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# Prints the folder of pip's torch; installs it if it is not there.
pip_prefix() {  # VENV VERSION [PACKAGE...]
  local python=${ROOT}/$1/bin/python
  [[ -x ${python} ]] || python3 -m venv "${ROOT}/$1" >&2
  local version
  version=$("${python}" -c 'import importlib.metadata as m
print(m.version("torch").split("+")[0])' 2>/dev/null) || true
  if [[ ${version} != "$2" ]]; then
    "${python}" -m pip install --disable-pip-version-check \
      "torch==$2" "${@:3}" >&2
  fi
  "${python}" -c 'import importlib.util as u
print(u.find_spec("torch").submodule_search_locations[0])'
}

# Makes .venv-gymnasium, if it is not there with these versions.
install_gymnasium() {
  local folder=${ROOT}/.venv-gymnasium
  [[ -x ${folder}/bin/python ]] || python3 -m venv "${folder}"
  if [[ $(cat "${folder}/packages" 2>/dev/null) != "${GYMNASIUM[*]}" ]]; then
    "${folder}/bin/python" -m pip install --quiet \
      --disable-pip-version-check "${GYMNASIUM[@]}"
    echo "${GYMNASIUM[*]}" >"${folder}/packages"
  fi
  echo "Gymnasium: ${folder}"
}

# Configures build/release with CMAKE_PREFIX_PATH = $1, from scratch if that
# changes; does nothing if all is there (ninja runs CMake again by itself).
configure() {
  local fresh=()
  if [[ -f ${CACHE} ]]; then
    if [[ $(cached CMAKE_PREFIX_PATH) != "$1" ]]; then
      fresh=(--fresh)
    elif [[ -f ${ROOT}/build/release/build.ninja ]]; then
      return 0
    fi
  fi
  (cd "${ROOT}" &&
    cmake --preset release "${fresh[@]}" -DCMAKE_PREFIX_PATH="$1")
}

choice=
gymnasium=no
packages=("${PACKAGES[@]}")
for argument in "$@"; do
  case ${argument} in
    --libtorch=?*) choice=${argument#*=} ;;
    --tests) packages+=("${TEST_PACKAGES[@]}") ;;
    --browser) packages+=("${BROWSER_PACKAGES[@]}") ;;
    --gymnasium) gymnasium=yes ;;
    --packages)
      install_packages "${packages[@]}" "${TORCH_PACKAGES[@]}"
      exit
      ;;
    --packages=replay)
      install_packages "${packages[@]}"
      exit
      ;;
    *) fail 2 "${argument}: allowed is --libtorch=debian|pip|cuda|PATH, --tests, --browser, --gymnasium, --packages[=replay]" ;;
  esac
done
if [[ -n ${choice} && ${choice} != debian && ${choice} != pip &&
  ${choice} != cuda ]]; then
  [[ -d ${choice}/share/cmake/Torch ]] ||
    fail 2 "--libtorch=${choice}: allowed is debian, pip, cuda or a folder with share/cmake/Torch"
  choice=$(cd "${choice}" && pwd)
fi
if [[ -z ${choice} ]]; then
  choice=$(cached CMAKE_PREFIX_PATH)
  [[ ${choice} != "${ROOT}/.venv/"* ]] || choice=pip
  [[ ${choice} != "${ROOT}/.venv-cuda/"* ]] || choice=cuda
  choice=${choice:-debian}
fi

case ${choice} in
  debian)
    install_packages "${packages[@]}" "${TORCH_PACKAGES[@]}"
    prefix= from=Debian
    ;;
  pip)
    install_packages "${packages[@]}"
    prefix=$(pip_prefix .venv "${PIP_TORCH}") from=pip
    ;;
  cuda)
    install_packages "${packages[@]}"
    prefix=$(pip_prefix .venv-cuda "${CUDA_TORCH}" "${CUDA_HEADERS[@]}")
    from="pip, CUDA"
    ;;
  *)
    install_packages "${packages[@]}"
    prefix=${choice} from=folder
    ;;
esac
configure "${prefix}"
version=$(sed -n 's/.*PACKAGE_VERSION "\(.*\)".*/\1/p' \
  "$(cached Torch_DIR)/TorchConfigVersion.cmake" | head -n 1)
echo "LibTorch: ${version} (${from}), ${prefix:-/usr}"
[[ ${gymnasium} == no ]] || install_gymnasium

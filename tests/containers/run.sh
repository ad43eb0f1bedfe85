#!/usr/bin/env bash
# Builds the images and runs them: sizes, user, read-only root, health, SIGTERM,
# and a cluster with Compose that trains CartPole and ends.
#
#   tests/containers/run.sh [--keep] [--libtorch=ARCHIVE]
#   tests/containers/run.sh --tag=TAG
#
# --keep      Leaves images, and the engine's data where it was started here.
# --tag       Builds nothing: runs the images qfleet-*:TAG as they are.
# --libtorch  Also builds learner-cuda, with this archive (docker/Dockerfile).
#
# QFLEET_BASE: a Debian 13 image to build in. Without it, one is made with
# debootstrap from where apt finds this machine's Debian, so that no registry is
# needed.
# Uses the engine that `docker` reaches; where there is none, and this is root,
# it starts Debian's dockerd for itself, with all its data in a folder of its
# own, and ends it.
#
# The last line is "containers: fine", with exit code 0, or "skipped: " and why,
# with 77. Images take some minutes and 6 GB.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
readonly ROOT
readonly SKIPPED=77
readonly SUITE=trixie
readonly MAX_REPLAY_MB=150
readonly USER_ID=10001:10001
VERSION=$(sed -n 's/^project(qfleet VERSION \([0-9.]*\).*/\1/p' \
  "${ROOT}/CMakeLists.txt")
readonly VERSION
readonly PROJECT=qfleet-test-$$
WORK=$(mktemp -d /tmp/qfleet-containers-XXXXXX)
readonly WORK

keep=no
libtorch=
given_tag=
for argument in "$@"; do
  case ${argument} in
    --keep) keep=yes ;;
    --libtorch=?*) libtorch=${argument#*=} ;;
    --tag=?*) given_tag=${argument#*=} ;;
    *)
      echo "tests/containers/run.sh: ${argument}: allowed is --keep, --libtorch=ARCHIVE, --tag=TAG" >&2
      exit 2
      ;;
  esac
done

readonly TAG=${given_tag:-test-$$}
engine_pid=
had_bridge=no  # Of an engine that runs or ran here before.
[[ ! -e /sys/class/net/docker0 ]] || had_bridge=yes
containers=()
failures=0

skip() {
  echo "skipped: $1"
  exit "${SKIPPED}"
}

check() {  # WHAT COMMAND...: runs it; a failure is counted, not the end.
  local what=$1
  shift
  if "$@"; then
    echo "ok: ${what}"
  else
    echo "FAILED: ${what}"
    failures=$((failures + 1))
  fi
}

equal() {  # VALUE EXPECTED
  [[ $1 == "$2" ]] || {
    echo "  is \"$1\", not \"$2\""
    return 1
  }
}

wait_until() {  # SECONDS COMMAND...: polls until it succeeds.
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
}

clean_up() {
  set +e
  [[ -z ${libtorch} ]] || rm -f "${ROOT}/docker/libtorch.tar"
  if ((${#containers[@]} > 0)); then
    docker rm --force --volumes "${containers[@]}" >/dev/null 2>&1
  fi
  if [[ -n ${compose_used:-} ]]; then
    compose down --volumes --timeout 5 >/dev/null 2>&1
  fi
  if [[ ${keep} == no && -z ${given_tag} && -n ${DOCKER_READY:-} ]]; then
    docker image ls --quiet --filter "reference=qfleet-*:${TAG}" |
      sort -u | xargs --no-run-if-empty docker image rm --force >/dev/null 2>&1
  fi
  if [[ -n ${engine_pid} ]]; then
    kill "${engine_pid}" 2>/dev/null
    wait "${engine_pid}" 2>/dev/null
    umount "${WORK}/exec/netns/default" 2>/dev/null
    [[ ${had_bridge} == yes ]] || ip link delete docker0 2>/dev/null
  fi
  if [[ ${keep} == yes ]]; then
    echo "kept: ${WORK}"
  else
    rm -rf "${WORK}"
  fi
}
trap clean_up EXIT

# ----------------------------------------------------------------- engine ---

command -v docker >/dev/null || skip "no docker here (Debian: docker.io)"
if command -v docker-compose >/dev/null; then
  COMPOSE=(docker-compose)
elif docker compose version >/dev/null 2>&1; then
  COMPOSE=(docker compose)
else
  skip "no Compose here (Debian: docker-compose)"
fi

start_engine() {
  command -v dockerd >/dev/null || skip "no Docker engine here"
  ((EUID == 0)) || skip "no Docker engine runs, and only root can start one"
  export DOCKER_HOST=unix://${WORK}/docker.sock
  dockerd --data-root="${WORK}/engine" --exec-root="${WORK}/exec" \
    --host="${DOCKER_HOST}" --pidfile="${WORK}/dockerd.pid" \
    >"${WORK}/dockerd.log" 2>&1 &
  engine_pid=$!
  engine_answers() {
    docker info >/dev/null 2>&1 || ! kill -0 "${engine_pid}" 2>/dev/null
  }
  wait_until 60 engine_answers || true
  docker info >/dev/null 2>&1 ||
    skip "the Docker engine does not start: $(tail -n 1 "${WORK}/dockerd.log")"
}

docker info >/dev/null 2>&1 || start_engine
DOCKER_READY=yes

# The newer clients need a plugin for the newer builder; the older one builds
# the same.
builder() {
  if docker buildx version >/dev/null 2>&1; then
    echo 1
  elif [[ $(docker version --format '{{.Client.Version}}') =~ ^(18|19|20)\. ]]
  then
    echo 1
  else
    echo 0
  fi
}
DOCKER_BUILDKIT=$(builder)
export DOCKER_BUILDKIT
export COMPOSE_DOCKER_CLI_BUILD=1
echo "engine: $(docker version --format '{{.Server.Version}}'), builder $(
  [[ ${DOCKER_BUILDKIT} == 1 ]] && echo BuildKit || echo classic)"

# ------------------------------------------------------------------- base ---

# "URI SUITE COMPONENT" of each of apt's sources that is of this machine's
# Debian, with our suite instead.
apt_sources() {
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
    'Created-By: Packages' | sort -u |
    awk -v here="$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)" \
      -v suite="${SUITE}" '$2 ~ "^" here "(-updates|-security)?$" {
        sub("^" here, suite, $2)
        print
      }'
}

make_base() {
  command -v debootstrap >/dev/null ||
    skip "neither QFLEET_BASE nor debootstrap (Debian: debootstrap)"
  ((EUID == 0)) || skip "debootstrap needs root: set QFLEET_BASE"
  local folder=${WORK}/base uri
  apt_sources >"${WORK}/sources"
  uri=$(awk -v suite="${SUITE}" '$2 == suite { print $1; exit }' \
    "${WORK}/sources")
  [[ -n ${uri} ]] || skip "apt has no source of Debian here"
  debootstrap --variant=minbase "${SUITE}" "${folder}" "${uri}" \
    >"${WORK}/debootstrap.log" 2>&1 ||
    skip "debootstrap failed: $(tail -n 1 "${WORK}/debootstrap.log")"
  # What apt is told here about where and how to fetch.
  awk '{ print "deb", $1, $2, $3 }' "${WORK}/sources" \
    >"${folder}/etc/apt/sources.list"
  apt-config dump Acquire >"${folder}/etc/apt/apt.conf.d/99machine"
  rm -rf "${folder}"/var/{cache/apt,lib/apt/lists}/*
  tar -C "${folder}" -c . | docker import - "qfleet-base:${TAG}" >/dev/null
  rm -rf "${folder}"
  base=qfleet-base:${TAG}
}

base=${QFLEET_BASE:-}
if [[ -z ${base} && -z ${given_tag} ]]; then
  echo "making a base image"
  make_base
fi

# ----------------------------------------------------------------- images ---

build() {  # TARGET [FLAG...]
  local target=$1 begin=${SECONDS}
  shift
  docker build --quiet --network=host --build-arg="BASE=${base}" \
    --build-arg="VERSION=${VERSION}" --file="${ROOT}/docker/Dockerfile" \
    --target="${target}" --tag="qfleet-${target}:${TAG}" "$@" "${ROOT}" \
    >"${WORK}/build-${target}.log" 2>&1 || {
    tail -n 40 "${WORK}/build-${target}.log"
    echo "FAILED: building ${target}"
    exit 1
  }
  echo "built ${target}: $((SECONDS - begin)) s, $(
    megabytes "qfleet-${target}:${TAG}") MB"
}

megabytes() {
  echo $(($(docker image inspect --format '{{.Size}}' "$1") / 1000000))
}

images=(replay actor learner)
if [[ -z ${given_tag} ]]; then
  begin=${SECONDS}
  for target in "${images[@]}" prometheus; do
    build "${target}"
  done
  echo "built all: $((SECONDS - begin)) s on $(nproc) cores"
fi
if [[ -n ${libtorch} ]]; then
  readonly ARCHIVE=docker/libtorch.tar
  ln -f "${libtorch}" "${ROOT}/${ARCHIVE}" 2>/dev/null ||
    cp "${libtorch}" "${ROOT}/${ARCHIVE}"
  build learner-cuda --build-arg="LIBTORCH=${ARCHIVE}"
  rm -f "${ROOT}/${ARCHIVE}"
  images+=(learner-cuda)
else
  echo "not built: learner-cuda (--libtorch=ARCHIVE)"
fi

# What an image is.
of_image() {  # TARGET FORMAT
  docker image inspect --format "$2" "qfleet-$1:${TAG}"
}

# The files in an image.
files_of() {  # TARGET
  local id
  id=$(docker create "qfleet-$1:${TAG}")
  docker export "${id}" | tar -t
  docker rm "${id}" >/dev/null
}

# As everything here runs: no root, no writable root, no capabilities.
readonly LOCKED=(--read-only --cap-drop=ALL --security-opt=no-new-privileges)

small_enough() { (($(megabytes "qfleet-replay:${TAG}") < MAX_REPLAY_MB)); }
has_no_framework() {
  ! files_of replay | grep -iE 'torch|libc10|openblas|mkl|python'
}
has_no_shell() { ! files_of "$1" | grep -E '(^|/)(sh|bash|dash|apt-get)$'; }
says_its_version() {
  equal "$(docker run --rm --network=none "${LOCKED[@]}" \
    "qfleet-$1:${TAG}" --version)" "${VERSION}"
}
has_the_command() {
  docker run --rm --network=none "${LOCKED[@]}" --entrypoint=qfleet \
    "qfleet-$1:${TAG}" --version >/dev/null
}

check "replay is smaller than ${MAX_REPLAY_MB} MB" small_enough
check "replay has no ML framework" has_no_framework
for target in "${images[@]}"; do
  check "${target}: user" equal \
    "$(of_image "${target}" '{{.Config.User}}')" "${USER_ID}"
  check "${target}: version label" equal "$(of_image "${target}" \
    '{{index .Config.Labels "org.opencontainers.image.version"}}')" \
    "${VERSION}"
  check "${target}: has no shell" has_no_shell "${target}"
  check "${target}: runs on a read-only root and says its version" \
    says_its_version "${target}"
  check "${target}: has the qfleet command" has_the_command "${target}"
done

# ------------------------------------------------- one process at a time ---

healthy() {
  [[ $(docker inspect --format '{{.State.Health.Status}}' "$1") == healthy ]]
}

# Starts a process, alone, waits until it is healthy, stops it.
stops_when_asked() {  # TARGET EXIT_CODE [FLAG...]
  local id begin code
  id=$(docker run --detach "${LOCKED[@]}" --tmpfs=/tmp \
    --volume="${WORK}/config.txtpb:/etc/qfleet/config.txtpb:ro" \
    "qfleet-$1:${TAG}" --config=/etc/qfleet/config.txtpb \
    --metrics=127.0.0.1:9400 "${@:3}") || return 1
  containers+=("${id}")
  wait_until 120 healthy "${id}" || {
    docker logs "${id}" | tail -n 5
    return 1
  }
  begin=${SECONDS}
  docker stop --time=30 "${id}" >/dev/null
  code=$(docker inspect --format '{{.State.ExitCode}}' "${id}")
  ((SECONDS - begin < 20)) && equal "${code}" "$2" || {
    docker logs "${id}" | tail -n 5
    return 1
  }
}

sed 's/"replay-[01]:7201"/"127.0.0.1:7201"/; s/"learner:7301"/"127.0.0.1:7301"/' \
  "${ROOT}/docker/cartpole.txtpb" >"${WORK}/config.txtpb"
chmod 644 "${WORK}/config.txtpb"
chmod 755 "${WORK}"
check "replay: is healthy, ends with 0 on SIGTERM" stops_when_asked \
  replay 0 --listen=127.0.0.1:7201 --data_dir=/data/shard
# Before the run has come to its end.
check "learner: is healthy, ends with 4 on SIGTERM" stops_when_asked \
  learner 4 --listen=127.0.0.1:7301 --run_dir=/data/run --resume
check "actor: is healthy, ends with 0 on SIGTERM" stops_when_asked \
  actor 0 --any_actor

# ---------------------------------------------------------------- compose ---

compose() {
  QFLEET_TAG=${TAG} QFLEET_BASE=${base} QFLEET_CONFIG=${config} \
    QFLEET_PROMETHEUS_IMAGE=qfleet-prometheus:${TAG} \
    QFLEET_PROMETHEUS_PORT=${port} \
    "${COMPOSE[@]}" --project-name="${PROJECT}" \
    --file="${ROOT}/docker/compose.yml" "$@"
}

ids() { compose ps --all --quiet "$@"; }
all_healthy() {
  local id
  for id in $(ids replay-0 replay-1 learner actor evaluator); do
    healthy "${id}" || return 1
  done
}
# Prometheus sees all of them, and its rules work.
targets_up() {
  python3 - "http://127.0.0.1:${port}" <<'PYTHON'
import json
import sys
import urllib.request

def get(path):
  opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
  with opener.open(f"{sys.argv[1]}/api/v1/{path}", timeout=5) as answer:
    return json.load(answer)["data"]

try:
  up = {}
  for target in get("targets")["activeTargets"]:
    if target["health"] == "up":
      component = target["labels"]["component"]
      up[component] = up.get(component, 0) + 1
  rules = [r for g in get("rules")["groups"] for r in g["rules"]]
except OSError:
  sys.exit(1)  # It is not ready yet.
sys.exit(up != {"replay": 2, "learner": 1, "actor": 3, "evaluator": 1}
         or not rules or any(r["health"] != "ok" for r in rules))
PYTHON
}
status_answers() {
  compose exec -T learner qfleet status learner:7301 replay-0:7201 \
    replay-1:7201 >"${WORK}/status.log" 2>&1
}
locked() {
  local id
  for id in $(ids); do
    equal "$(docker inspect --format \
      '{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}' "${id}")" \
      "true [ALL]" || return 1
  done
}
exit_codes() {  # Of services that have ended: "0", "0 4".
  local id
  for id in $(ids "$@"); do
    docker inspect --format '{{.State.Status}}:{{.State.ExitCode}}' "${id}"
  done | sort -u | xargs
}

port=$(python3 -c 'import socket
with socket.socket() as s:
  s.bind(("127.0.0.1", 0))
  print(s.getsockname()[1])')
config=${WORK}/endless.txtpb
sed 's/mean_return: 475 max_env_steps: 300000/mean_return: 1e9/' \
  "${ROOT}/docker/cartpole.txtpb" >"${config}"
chmod 644 "${config}"
compose_used=yes
compose up --detach --no-build --scale actor=3 >"${WORK}/up.log" 2>&1 || {
  cat "${WORK}/up.log"
  echo "FAILED: compose up"
  exit 1
}
check "compose: all are healthy" wait_until 120 all_healthy
check "compose: Prometheus sees 2 shards, 3 actors, evaluator, learner" \
  wait_until 120 targets_up
check "compose: qfleet status answers" wait_until 30 status_answers
check "compose: roots are read-only, no capabilities" locked
compose stop >"${WORK}/stop.log" 2>&1
check "compose: shards and actors end with 0" equal \
  "$(exit_codes replay-0 replay-1 actor evaluator)" exited:0
check "compose: an unfinished learner ends with 4" equal \
  "$(exit_codes learner)" exited:4
compose down --volumes >/dev/null 2>&1

# To the end: everything ends with the learner.
config=${ROOT}/docker/cartpole.txtpb
trains() {
  timeout 500 env QFLEET_TAG="${TAG}" QFLEET_BASE="${base}" \
    QFLEET_CONFIG="${config}" \
    QFLEET_PROMETHEUS_IMAGE="qfleet-prometheus:${TAG}" \
    QFLEET_PROMETHEUS_PORT="${port}" \
    "${COMPOSE[@]}" --project-name="${PROJECT}" \
    --file="${ROOT}/docker/compose.yml" up --no-build --scale actor=3 \
    --exit-code-from learner >"${WORK}/train.log" 2>&1
}
begin=${SECONDS}
check "compose: trains CartPole and ends with the learner's code" trains
echo "trained: $((SECONDS - begin)) s; $(
  grep -o 'reached: .*' "${WORK}/train.log" | tail -n 1)"
check "compose: shards and actors have ended, with 0" equal \
  "$(exit_codes replay-0 replay-1 actor evaluator learner)" exited:0

if ((failures > 0)); then
  tail -n 30 "${WORK}/train.log"
  echo "containers: ${failures} checks failed"
  exit 1
fi
echo "containers: fine"

#!/usr/bin/env bash
# The direction of the dependencies (docs/design.md), and that qfleet-replay and
# qfleet-relay hold no ML framework.
#   tests/dependencies_test.sh SOURCE_DIR BIN_DIR
set -euo pipefail

source_dir=$1
bin_dir=$2
failures=0

fail() {
  echo "FAILED: $1"
  failures=$((failures + 1))
}

# Of each folder: the folders that its files may include from.
declare -A allowed=(
  [common]="common"
  [weights]="common weights"
  [envs]="common envs"
  [config]="common envs config"
  [replay_server/core]="common replay_server/core"
  [replay_server/service]="common config replay_server"
  [replay_client]="common replay_client"
  [model]="common weights envs model"
  [actor]="common weights envs config model replay_client actor"
  [learner]="common weights envs config model replay_client learner"
  [solo]="common weights envs config model replay_client actor learner
          replay_server/core solo"
  [relay]="common config weights relay"
  [cli]="common config replay_server/core cli"
)

for folder in "${!allowed[@]}"; do
  files=$(find "$source_dir/$folder" -name '*.h' -o -name '*.cc')
  [ -n "$files" ] || fail "$folder: no sources there"
  # "path:#include "folder/..."" lines that name one of our folders.
  while IFS=: read -r file include; do
    ok=no
    for prefix in ${allowed[$folder]}; do
      case $include in "$prefix"/*) ok=yes ;; esac
    done
    [ "$ok" = yes ] || fail "${file#"$source_dir"/} includes $include"
  done < <(
    # shellcheck disable=SC2086
    grep -HoE '^#include "(common|weights|envs|config|replay_server|replay_client|model|actor|learner|relay|solo|cli)/[^"]+' \
      $files | sed 's/#include "//'
  )
done

# The core knows neither gRPC nor threads.
if grep -rnE '#include [<"](grpc|thread|mutex|absl/synchronization)' \
  "$source_dir/replay_server/core"; then
  fail "replay_server/core includes gRPC or threads"
fi

for binary in qfleet-replay qfleet-relay qfleet; do
  libraries=$(ldd "$bin_dir/$binary")
  if grep -qiE 'torch|libc10|openblas|mkl' <<<"$libraries"; then
    fail "$binary loads an ML framework"
  fi
  grep -q libgrpc <<<"$libraries" || fail "$binary: ldd does not show gRPC"
done

# The check itself works: the learner does load it.
if [ -x "$bin_dir/qfleet-learner" ]; then
  grep -qi torch <<<"$(ldd "$bin_dir/qfleet-learner")" ||
    fail "qfleet-learner loads no LibTorch: this check sees nothing"
fi

[ "$failures" -eq 0 ] && echo "dependencies: fine"
[ "$failures" -eq 0 ]

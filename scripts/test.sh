#!/usr/bin/env bash
# Sets up, builds everything and runs every test. The last line is
# "N passed, N failed".
#
#   scripts/test.sh [--libtorch=...] [--long] [--fuzz=SECONDS]
#
# --long  Also the container images (tests/containers/run.sh), where an engine can
#         run, and ten rounds of faults instead of one (tests/chaos). Half an hour
#         more.
# --fuzz  Also fuzzes each target for so long, where clang is (fuzz/run.sh).
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT
readonly REPORT=${ROOT}/build/release/tests.xml

setup=()
fuzz=0
long=no
for argument in "$@"; do
  case ${argument} in
    --libtorch=?*) setup=("${argument}") ;;
    --long) long=yes ;;
    --fuzz=?*) fuzz=${argument#*=} ;;
    *)
      echo "scripts/test.sh: ${argument}: allowed is --libtorch=debian|pip|cuda|PATH, --long, --fuzz=SECONDS" >&2
      exit 2
      ;;
  esac
done

"${ROOT}/scripts/setup.sh" --tests "${setup[@]}"
"${ROOT}/scripts/setup.sh" --gymnasium "${setup[@]}" >/dev/null ||
  echo "scripts/test.sh: no Gymnasium here: its tests are skipped" >&2
cmake --build "${ROOT}/build/release"
rm -f "${REPORT}"
code=0
options=(--output-junit "${REPORT}")
# Some tests belong to the configuration Long only.
if [[ ${long} == yes ]]; then
  options+=(--build-config Long)
  export QFLEET_CHAOS_ROUNDS=10
fi
(cd "${ROOT}" && ctest --preset release "${options[@]}") || code=$?
if [[ ${fuzz} != 0 ]]; then
  if command -v clang++ >/dev/null; then
    "${ROOT}/fuzz/run.sh" "${fuzz}" || code=$?
  else
    echo "scripts/test.sh: not fuzzed, as --fuzz asks: no clang++ here" >&2
    code=1
  fi
fi

# A test that asked to be skipped counts as neither; one that could not be
# started has failed.
python3 - "${REPORT}" "${code}" <<'PYTHON'
import sys
import xml.etree.ElementTree as ElementTree

report, code = sys.argv[1], int(sys.argv[2])
passed = failed = 0
try:
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
except (OSError, ElementTree.ParseError) as error:
    print(f"scripts/test.sh: no report of ctest: {error}", file=sys.stderr)
    cases = []
for case in cases:
    skipped = case.find("skipped")
    if case.get("status") == "run" and case.find("failure") is None:
        passed += 1
    elif case.get("status") == "disabled" or (
            skipped is not None
            and skipped.get("message", "").startswith("SKIP_")):
        print(f"skipped: {case.get('name')}")
    else:
        failed += 1
        print(f"failed: {case.get('name')}")
print(f"{passed} passed, {failed} failed")
sys.exit(code or (1 if failed or not passed else 0))
PYTHON

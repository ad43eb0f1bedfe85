#!/usr/bin/env bash
# Makes a folder the root of an image: programs, stripped, in /usr/local/bin, the
# shared libraries that they load at the places where they are here, the licenses
# of their packages, a user.
#
#   docker/collect.sh OUT PROGRAM... [-- FOLDER...]
#
# FOLDER: whose shared libraries come along whether or not a program names them
# (what CUDA's libraries open by themselves).
set -euo pipefail

readonly UID_GID=10001

out=$1
shift
programs=()
while (($# > 0)) && [[ $1 != -- ]]; do
  programs+=("$1")
  shift
done
folders=("${@:2}")

mkdir -p "${out}"/{etc,tmp,usr/lib,usr/lib64,usr/local/bin}
chmod 1777 "${out}/tmp"
# As in Debian.
ln -sfn usr/lib "${out}/lib"
ln -sfn usr/lib64 "${out}/lib64"
echo "qfleet:x:${UID_GID}:${UID_GID}::/tmp:/nonexistent" >"${out}/etc/passwd"
echo "qfleet:x:${UID_GID}:" >"${out}/etc/group"
echo "hosts: files dns" >"${out}/etc/nsswitch.conf"

libraries() {  # PROGRAM...: their paths, each once.
  local listing
  listing=$(ldd "$@")
  if grep "not found" <<<"${listing}" >&2; then
    echo "docker/collect.sh: a library is missing" >&2
    return 1
  fi
  grep -oE '(=> |^\s)/[^ ]+ \(0x' <<<"${listing}" |
    grep -oE '/[^ ]+' | sort -u
}

# The packages that these files are of, each once. Packages name files with and
# without /usr.
packages() {  # FILE...
  local names
  names=$(dpkg-query -S "$@" "${@#/usr}" 2>/dev/null) || true
  cut -d: -f1 <<<"${names}" | sort -u
}

files=()
listing=$(libraries "${programs[@]}")
while read -r library; do
  files+=("$(readlink -f "${library}")")
  install -D -m 755 "${files[-1]}" "${out}${library}"
done <<<"${listing}"
packages "${files[@]}" | while read -r package; do
  install -D -m 644 "/usr/share/doc/${package}/copyright" \
    "${out}/usr/share/doc/${package}/copyright"
done
install -D -m 644 LICENSE "${out}/usr/share/doc/qfleet/copyright"
for folder in "${folders[@]}"; do
  find "${folder}" -name '*.so*' | while read -r library; do
    [[ -e ${out}${library} ]] ||
      install -D -m 755 "$(readlink -f "${library}")" "${out}${library}"
  done
done
for program in "${programs[@]}"; do
  strip --strip-all -o "${out}/usr/local/bin/${program##*/}" "${program}"
done

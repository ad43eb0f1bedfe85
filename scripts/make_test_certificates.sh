#!/usr/bin/env bash
# Certificates for tests and for trying TLS out on one machine: an authority, a
# server's certificate (for localhost and 127.0.0.1; also good for dialing, as
# most processes do both) and a client's. Keys are for their owner only.
#
#   scripts/make_test_certificates.sh DIR [--days=N] [--name=NAME]...
#
# --days  How long they are valid; default 2, negative: they have expired.
# --name  Further DNS names of the server's certificate.
# An authority that is in DIR already stays, and signs the new ones: that is a
# renewal. A server.key, client.key and their .crt that are there are replaced.
#
# Not for production: the authority's key lies beside what it signs.
set -euo pipefail

usage() {
  echo "scripts/make_test_certificates.sh: $1 = \"$2\": allowed is $3" >&2
  exit 2
}

directory=""
days=2
names="DNS:localhost,IP:127.0.0.1,IP:::1"
for argument in "$@"; do
  case ${argument} in
    --days=*) days=${argument#*=} ;;
    --name=*) names+=",DNS:${argument#*=}" ;;
    -*) usage FLAG "${argument}" "--days=N, --name=NAME" ;;
    *) directory=${argument} ;;
  esac
done
[[ -n ${directory} ]] || usage DIR "" "a folder"
[[ ${days} =~ ^-?[0-9]{1,4}$ ]] || usage --days "${days}" "a number of days"
command -v openssl >/dev/null || {
  echo "scripts/make_test_certificates.sh: openssl is not installed" >&2
  exit 1
}

valid=(-days "${days}")
# OpenSSL 3.4 and later want a certificate to begin before it ends.
if ((days < 0)) && openssl x509 -help 2>&1 | grep -q -e -not_before; then
  at() { date --utc --date="$1 days" +%Y%m%d%H%M%SZ; }
  valid=(-not_before "$(at $((days - 1)))" -not_after "$(at "${days}")")
fi

umask 077
mkdir -p "${directory}"
cd "${directory}"
log=$(mktemp)
trap 'rm -f "${log}" {server,client}.{csr,ext}' EXIT

quietly() {  # COMMAND...
  "$@" >"${log}" 2>&1 || {
    cat "${log}" >&2
    exit 1
  }
}

make_key() {  # FILE
  quietly openssl ecparam -name prime256v1 -genkey -noout -out "$1.new"
}

# The key first, then the certificate, each as a whole: as a renewal does it.
sign() {  # NAME USAGE [ALTERNATIVE_NAMES]
  {
    echo "basicConstraints=critical,CA:false"
    echo "keyUsage=critical,digitalSignature"
    echo "extendedKeyUsage=$2"
    [[ -z ${3:-} ]] || echo "subjectAltName=$3"
  } >"$1.ext"
  make_key "$1.key"
  quietly openssl req -new -key "$1.key.new" -subj "/O=qfleet test/CN=$1" \
    -out "$1.csr"
  quietly openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key \
    -set_serial "0x$(openssl rand -hex 16)" -sha256 "${valid[@]}" \
    -extfile "$1.ext" -out "$1.crt.new"
  mv "$1.key.new" "$1.key"
  mv "$1.crt.new" "$1.crt"
}

# The authority outlives what it signs.
ca_days=$((days < 30 ? 30 : days + 1))
if [[ ! -f ca.crt ]]; then
  [[ ! -e ca.key ]] || {
    echo "scripts/make_test_certificates.sh: ${directory}/ca.key is there, but no ca.crt: allowed is a folder with both or neither" >&2
    exit 1
  }
  make_key ca.key
  mv ca.key.new ca.key
  quietly openssl req -x509 -new -key ca.key -sha256 -days "${ca_days}" \
    -subj "/O=qfleet test/CN=authority $(openssl rand -hex 4)" \
    -addext "basicConstraints=critical,CA:true" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" -out ca.crt
fi
sign server serverAuth,clientAuth "${names}"
sign client clientAuth

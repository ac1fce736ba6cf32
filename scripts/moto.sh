#!/usr/bin/env bash
# moto, a server that speaks S3, for the tests of checkpoints in an object store.
#   scripts/moto.sh install    makes a Python environment with it, once, and prints where its moto_server is
# The environment is /var/tmp/acequia-moto, or $ACEQUIA_MOTO. What starts a server gives it a port and ends it by its pid.
set -euo pipefail

[ "${1:-}" = install ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
place=${ACEQUIA_MOTO:-/var/tmp/acequia-moto}

# Of two that come at the same time one installs.
exec 9>"$place.lock"
flock 9
works() { "$place/bin/moto_server" --help >/dev/null 2>&1; }
if ! works; then
    echo "moto.sh: installing moto in $place" >&2
    python3 -m venv "$place" 2>/dev/null || {
        apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-upgrade --no-install-recommends python3-venv >&2
        python3 -m venv "$place"
    }
    "$place/bin/pip" install --quiet --disable-pip-version-check 'moto==5.2.5' flask flask-cors >&2
    works || { echo "moto.sh: $place/bin/moto_server does not start" >&2; exit 1; }
fi
echo "$place/bin/moto_server"

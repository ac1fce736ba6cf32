#!/usr/bin/env bash
# The readers that other people have written, in Python: deltalake, DuckDB, Polars, pyarrow, and ADBC's Flight SQL client.
#   scripts/python.sh install    makes a Python environment with them, once, and prints where its python is
# The environment is /var/tmp/acequia-python, or $ACEQUIA_PYTHON; the packages' versions are fixed here.
set -euo pipefail

[ "${1:-}" = install ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
place=${ACEQUIA_PYTHON:-/var/tmp/acequia-python}
# DuckDB reads Delta tables by an extension: PyPI has it for 1.5.5, so that extensions.duckdb.org need not be reached. For
# times with a time zone it wants pytz.
packages=(
    deltalake==1.6.6 polars==2.1.0 pyarrow==26.0.1 duckdb==1.5.5 duckdb-extension-delta==1.5.5 pytz==2026.6
    adbc-driver-flightsql==1.13.0 adbc-driver-manager==1.13.0
)

# Of two that come at the same time one installs.
exec 9>"$place.lock"
flock 9

# Which versions are there, in a file of its own: to import them all takes seconds, and tests call this each time.
if [ "$(cat "$place/installed" 2>/dev/null)" != "${packages[*]}" ]; then
    echo "python.sh: installing ${packages[*]} in $place" >&2
    python3 -m venv "$place" 2>/dev/null || {
        apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-upgrade --no-install-recommends python3-venv >&2
        python3 -m venv "$place"
    }
    "$place/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}" >&2
    "$place/bin/python" -c 'import adbc_driver_flightsql.dbapi, deltalake, duckdb, polars, pyarrow.dataset' >&2 || {
        echo "python.sh: the packages in $place cannot be imported" >&2
        exit 1
    }
    echo "${packages[*]}" >"$place/installed"
fi
echo "$place/bin/python"

#!/usr/bin/env bash
# What the tests of the page on :8501 drive a browser with: Chromium, Node, and two packages of npm.
#   scripts/page.sh install    installs what is missing, once, and prints the folder that has the packages
# The folder is /var/tmp/acequia-page, or $ACEQUIA_PAGE. Chromium is Debian's; the packages' versions are fixed here.
set -euo pipefail

[ "${1:-}" = install ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
place=${ACEQUIA_PAGE:-/var/tmp/acequia-page}
packages=(playwright-core@1.65.1 axe-core@4.14.1)

# Of two that come at the same time one installs.
mkdir -p "$place"
exec 9>"$place.lock"
flock 9

missing=()
command -v chromium >/dev/null || missing+=(chromium fonts-inter)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
if [ "${#missing[@]}" -gt 0 ]; then
    echo "page.sh: installing ${missing[*]}" >&2
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-upgrade --no-install-recommends "${missing[@]}" >&2
fi
# Which versions are there, in a file of its own: a run of npm takes seconds, and tests call this each time.
if [ "$(cat "$place/installed" 2>/dev/null)" != "${packages[*]}" ]; then
    echo "page.sh: installing ${packages[*]} in $place" >&2
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$place" "${packages[@]}" >&2
    echo "${packages[*]}" >"$place/installed"
fi
echo "$place"

#!/usr/bin/env bash
# The JDBC driver of Arrow Flight SQL, for the tests of `acequia serve`, and a Java that runs a source file.
#   scripts/flight-jdbc.sh install    fetches what is missing, once, and prints where the driver's jar is
# The jar comes from Maven Central into /var/tmp/acequia-flight-jdbc, or $ACEQUIA_FLIGHT_JDBC; its version is fixed here.
set -euo pipefail

[ "${1:-}" = install ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
place=${ACEQUIA_FLIGHT_JDBC:-/var/tmp/acequia-flight-jdbc}
version=18.3.0
sha256=3f418b46c880e263558c5de669bdbede2c5d4375527ced116fb29f795b03704c
jar=$place/flight-sql-jdbc-driver-$version.jar
url=https://repo1.maven.org/maven2/org/apache/arrow/flight-sql-jdbc-driver/$version/flight-sql-jdbc-driver-$version.jar

# Of two that come at the same time one installs.
mkdir -p "$place"
exec 9>"$place.lock"
flock 9

missing=()
command -v javac >/dev/null || missing+=(default-jdk-headless)
command -v curl >/dev/null || missing+=(curl ca-certificates)
if [ "${#missing[@]}" -gt 0 ]; then
    echo "flight-jdbc.sh: installing ${missing[*]}" >&2
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-upgrade --no-install-recommends "${missing[@]}" >&2
fi
# The last step is a rename: a fetch that broke off is never taken for a whole one.
if [ ! -f "$jar" ]; then
    echo "flight-jdbc.sh: fetching $url" >&2
    curl -sSf --retry 3 -o "$jar.partial" "$url" >&2
    echo "$sha256  $jar.partial" | sha256sum --check --quiet >&2
    mv "$jar.partial" "$jar"
fi
echo "$jar"

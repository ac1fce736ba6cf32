#!/usr/bin/env bash
# A PostgreSQL server of one's own, for tests and trials: its data folder, its port, loopback only.
#   scripts/postgres.sh start --dir D --port P    starts it, waits until it answers, prints its URL
#   scripts/postgres.sh stop  --dir D             stops it, by its pid; the data stays in D
#   scripts/postgres.sh install                   installs Debian's `postgresql` if initdb or pg_ctl are missing
# Start installs as well. The package's own cluster is not started.
set -euo pipefail

usage() { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }

action=${1:-}; shift || usage
dir='' port=''
while [ $# -gt 0 ]; do
    case $1 in
        --dir) dir=${2:-}; shift 2 || usage ;;
        --port) port=${2:-}; shift 2 || usage ;;
        *) usage ;;
    esac
done

find_bin() {
    for candidate in "${PG_BIN:-}" /usr/lib/postgresql/*/bin /usr/local/bin; do
        if [ -x "$candidate/initdb" ] && [ -x "$candidate/pg_ctl" ]; then bin=$candidate; return 0; fi
    done
    local found
    found=$(command -v initdb 2>/dev/null) && [ -x "$(dirname "$found")/pg_ctl" ] && bin=$(dirname "$found")
}

install_package() {
    echo "postgres.sh: installing PostgreSQL" >&2
    # The package would start a cluster on 5432.
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-upgrade --no-install-recommends postgresql >&2
}

find_bin || { install_package; find_bin; } || { echo "postgres.sh: no initdb found; install PostgreSQL or set PG_BIN" >&2; exit 1; }
[ "$action" != install ] || exit 0

[ -n "$dir" ] || usage
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
data=$dir/data log=$dir/postgres.log

# PostgreSQL refuses to run as root.
run=()
if [ "$(id -u)" = 0 ]; then
    user=${PG_USER:-postgres}
    id "$user" >/dev/null 2>&1 || user=nobody
    chown "$user" "$dir"
    run=(setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups --)
fi
# The server's user may have no right to the caller's folder.
as_server() { (cd / && ${run[@]+"${run[@]}"} "$@"); }

case $action in
    start)
        [ -n "$port" ] || usage
        as_server test -x "$dir" || { echo "postgres.sh: user ${user:-} cannot enter $dir" >&2; exit 1; }
        if [ ! -f "$data/PG_VERSION" ]; then
            as_server "$bin/initdb" -D "$data" -U postgres -E UTF8 --locale=C -A trust --no-sync >"$dir/initdb.log" 2>&1 ||
                { tail -n 20 "$dir/initdb.log" >&2; exit 1; }
        fi
        as_server "$bin/pg_ctl" start -D "$data" -l "$log" -w -t 30 -s \
            -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=30 ${PG_OPTIONS:-}" >/dev/null 2>"$dir/pg_ctl.log" ||
            { echo "postgres.sh: the server did not start on port $port" >&2; cat "$dir/pg_ctl.log" >&2; tail -n 20 "$log" >&2; exit 1; }
        echo "postgres://postgres@127.0.0.1:$port/postgres"
        ;;
    stop)
        if [ -f "$data/postmaster.pid" ]; then
            as_server "$bin/pg_ctl" stop -D "$data" -m "${PG_STOP_MODE:-fast}" -w -t 30 -s
        fi
        ;;
    *) usage ;;
esac

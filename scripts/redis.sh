#!/usr/bin/env bash
# A Redis server of one's own, for tests and trials: its folder, its port, loopback only.
#   scripts/redis.sh start --dir D --port P [--password W] [--tls-port P]   starts it, waits until it answers, prints its URL
#   scripts/redis.sh stop  --dir D                                          stops it, by its pid; what it saved stays in D
#   scripts/redis.sh install                                                installs Debian's `redis-server` and
#                                                                           `openssl` if they are missing
# With --tls-port the server also speaks TLS there; its authority's certificate is D/ca.crt. Start installs as well. The
# package's own service is not started.
set -euo pipefail

usage() { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }

action=${1:-}; shift || usage
dir='' port='' password='' tls_port=''
while [ $# -gt 0 ]; do
    case $1 in
        --dir) dir=${2:-}; shift 2 || usage ;;
        --port) port=${2:-}; shift 2 || usage ;;
        --password) password=${2:-}; shift 2 || usage ;;
        --tls-port) tls_port=${2:-}; shift 2 || usage ;;
        *) usage ;;
    esac
done

install_packages() {
    echo "redis.sh: installing Redis" >&2
    apt-get update -qq >&2
    # Keeps the package from starting its service, and leaves the machine's own policy as it was.
    local policy=/usr/sbin/policy-rc.d ours=''
    if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' >$policy; chmod +x $policy; ours=1; fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-upgrade --no-install-recommends redis-server openssl >&2
    [ -z "$ours" ] || rm -f $policy
}

command -v redis-server >/dev/null && command -v openssl >/dev/null || install_packages
[ "$action" != install ] || exit 0

[ -n "$dir" ] || usage
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
pidfile=$dir/redis.pid log=$dir/redis.log

# A certificate for 127.0.0.1, signed by an authority of its own: ca.crt.
make_certificate() (
    cd "$dir"
    [ ! -f server.crt ] || exit 0
    key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
    openssl req -x509 "${key[@]}" -keyout ca.key -out ca.crt -days 30 -subj /CN=acequia-test 2>>openssl.log
    openssl req -new "${key[@]}" -keyout server.key -out server.csr -subj /CN=localhost 2>>openssl.log
    printf 'subjectAltName=IP:127.0.0.1,DNS:localhost' >server.ext
    openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile server.ext \
        -out server.crt -days 30 2>>openssl.log
)

running() { [ -f "$pidfile" ] && kill -0 "$(cat "$pidfile")" 2>/dev/null; }

case $action in
    start)
        [ -n "$port" ] || usage
        running && { echo "redis.sh: a server is already running in $dir" >&2; exit 1; }
        options=(--port "$port" --bind 127.0.0.1 --dir "$dir" --pidfile "$pidfile" --logfile "$log" --daemonize yes
            --appendonly yes --save '')
        [ -z "$password" ] || options+=(--requirepass "$password")
        if [ -n "$tls_port" ]; then
            make_certificate
            options+=(--tls-port "$tls_port" --tls-cert-file "$dir/server.crt" --tls-key-file "$dir/server.key"
                --tls-auth-clients no)
        fi
        redis-server "${options[@]}" >/dev/null 2>"$dir/start.log" || { cat "$dir/start.log" >&2; tail -n 20 "$log" >&2 || true; exit 1; }
        for _ in $(seq 300); do
            answer=$(REDISCLI_AUTH=$password redis-cli -h 127.0.0.1 -p "$port" ping 2>/dev/null || true)
            if [ "$answer" = PONG ] && running; then
                echo "redis://${password:+:$password@}127.0.0.1:$port"
                exit 0
            fi
            sleep 0.1
        done
        echo "redis.sh: the server did not answer on port $port" >&2
        tail -n 20 "$log" >&2 || true
        exit 1
        ;;
    stop)
        if running; then
            pid=$(cat "$pidfile")
            kill "$pid"
            for _ in $(seq 300); do kill -0 "$pid" 2>/dev/null || exit 0; sleep 0.1; done
            echo "redis.sh: process $pid does not stop" >&2
            exit 1
        fi
        ;;
    *) usage ;;
esac

#!/usr/bin/env bash
# A real Apache Kafka (KRaft, no ZooKeeper) on loopback, for tests and benchmarks.
#
#   scripts/kafka.sh start        --dir D --port P [--brokers N] [--owner PID] [--advertised P]
#                                                                  start N nodes (default 1) and wait until they answer;
#                                                                  when process PID ends, stop them and delete D;
#                                                                  clients of a single node are sent to port --advertised
#   scripts/kafka.sh stop         --dir D [--kill]                 stop all of them
#   scripts/kafka.sh stop-broker  I --dir D [--kill]               stop node I (from 1); --kill does not let it say goodbye
#   scripts/kafka.sh start-broker I --dir D                        start it again on its old data
#   scripts/kafka.sh install                                       Java and Maven from Debian if missing, then Kafka's jars
#
# Node I listens for clients on port P+I-1 and for its peers on P+N+I-1, so P to P+2N-1 must be free. Data, settings,
# logs and pids lie below D. Kafka itself comes from Maven Central, once, into $ACEQUIA_KAFKA_CACHE (default
# /var/tmp/acequia-kafka). KAFKA_JVM_OPTS adds to a node's Java options.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$(sed -n '/<artifactId>kafka_2.13</,/<\/dependency>/s:.*<version>\(.*\)</version>.*:\1:p' "$here/kafka/pom.xml")
cache=${ACEQUIA_KAFKA_CACHE:-/var/tmp/acequia-kafka}/$version
start_seconds=${KAFKA_START_SECONDS:-90}

fail() {
    echo "kafka.sh: $*" >&2
    exit 1
}

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
    exit 2
}

need() {
    command -v "$1" >/dev/null || fail "'$1' is not installed; scripts/kafka.sh install gets it as Debian's package $2"
}

install_packages() {
    local missing=()
    command -v java >/dev/null || missing+=(default-jre-headless)
    [ -d "$cache/jars" ] || command -v mvn >/dev/null || missing+=(maven)
    [ "${#missing[@]}" -gt 0 ] || return 0
    echo "kafka.sh: installing ${missing[*]}" >&2
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-upgrade --no-install-recommends "${missing[@]}" >&2
}

# Fetches Kafka's jars. The lock makes a second caller wait for the first; the last step is a rename, so that a fetch
# that broke off is never taken for a whole one.
fetch() {
    [ -d "$cache/jars" ] && return
    need mvn maven
    need flock util-linux
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock 9
    if [ ! -d "$cache/jars" ]; then
        echo "kafka.sh: fetching Apache Kafka $version from Maven Central into $cache" >&2
        rm -rf "$cache/partial"
        mvn -B -q -f "$here/kafka/pom.xml" dependency:copy-dependencies \
            "-DoutputDirectory=$cache/partial" >"$cache/fetch.log" 2>&1 9>&- ||
            { tail -n 20 "$cache/fetch.log" >&2; fail "could not fetch Apache Kafka $version (the whole log: $cache/fetch.log)"; }
        mv "$cache/partial" "$cache/jars"
    fi
    exec 9>&-
}

settings() {
    local node=$1 brokers=$2 port=$3 dir=$4 advertised=$5
    local replicas=$((brokers < 3 ? brokers : 3))
    local in_sync=$((replicas > 1 ? replicas - 1 : 1))
    local voters="" peer
    for ((peer = 1; peer <= brokers; peer++)); do
        voters+="${voters:+,}$peer@127.0.0.1:$((port + brokers + peer - 1))"
    done
    cat <<SETTINGS
process.roles=broker,controller
node.id=$node
controller.quorum.voters=$voters
listeners=PLAINTEXT://127.0.0.1:$((port + node - 1)),CONTROLLER://127.0.0.1:$((port + brokers + node - 1))
advertised.listeners=PLAINTEXT://127.0.0.1:${advertised:-$((port + node - 1))}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$dir/data-$node
auto.create.topics.enable=true
num.partitions=1
default.replication.factor=$replicas
min.insync.replicas=$in_sync
offsets.topic.replication.factor=$replicas
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$in_sync
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=$replicas
share.coordinator.state.topic.min.isr=$in_sync
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
log.retention.ms=-1
controlled.shutdown.max.retries=1
broker.session.timeout.ms=6000
num.network.threads=2
num.io.threads=2
SETTINGS
}

java_options=(-Xms128m -Xmx384m -XX:+UseSerialGC -XX:-UsePerfData)

run_node() {
    local node=$1 dir=$2
    if alive "$dir/broker-$node.pid"; then
        fail "node $node in $dir is running already (pid $(cat "$dir/broker-$node.pid"))"
    fi
    [ -f "$dir/broker-$node.log" ] && mv "$dir/broker-$node.log" "$dir/broker-$node.log.before"
    # shellcheck disable=SC2086  # options are words
    setsid java "${java_options[@]}" ${KAFKA_JVM_OPTS:-} "-Dlog4j2.configurationFile=$here/kafka/log4j2.properties" \
        -cp "$cache/jars/*" kafka.Kafka "$dir/broker-$node.properties" >"$dir/broker-$node.log" 2>&1 </dev/null &
    echo $! >"$dir/broker-$node.pid"
}

alive() {
    [ -f "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null
}

# Returns when the node says that it serves clients and its port takes a connection.
wait_for_node() {
    local node=$1 dir=$2 deadline=$((SECONDS + start_seconds)) port
    port=$(sed -n 's|^listeners=PLAINTEXT://127.0.0.1:\([0-9]*\),.*|\1|p' "$dir/broker-$node.properties")
    until grep -q 'Kafka Server started' "$dir/broker-$node.log" && (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        if ! alive "$dir/broker-$node.pid"; then
            tail -n 30 "$dir/broker-$node.log" >&2
            fail "node $node ended while it started (the whole log: $dir/broker-$node.log)"
        fi
        if ((SECONDS > deadline)); then
            tail -n 30 "$dir/broker-$node.log" >&2
            fail "node $node does not answer on 127.0.0.1:$port after $start_seconds s (the whole log: $dir/broker-$node.log)"
        fi
        sleep 0.1
    done
}

stop_node() {
    local node=$1 dir=$2 signal=$3 pid deadline=$((SECONDS + 20))
    alive "$dir/broker-$node.pid" || { rm -f "$dir/broker-$node.pid"; return 0; }
    pid=$(cat "$dir/broker-$node.pid")
    kill "-$signal" "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null; do
        if ((SECONDS > deadline)); then
            kill -KILL "$pid" 2>/dev/null || true
            deadline=$((SECONDS + 20))
        fi
        sleep 0.05
    done
    rm -f "$dir/broker-$node.pid"
}

# Cleans up after a test, however it ends.
outlive() {
    setsid bash -c 'while kill -0 "$1" 2>/dev/null; do sleep 0.3; done; "$2" stop --dir "$3" --kill; rm -rf "$3"' \
        watch "$1" "$here/kafka.sh" "$2" </dev/null >/dev/null 2>&1 &
}

start() {
    local dir=$1 port=$2 brokers=$3 node
    mkdir -p "$dir"
    for ((node = 1; node <= brokers; node++)); do
        settings "$node" "$brokers" "$port" "$dir" "$advertised" >"$dir/broker-$node.properties"
    done
    if [ ! -f "$dir/formatted" ]; then
        local pids=()
        for ((node = 1; node <= brokers; node++)); do
            java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
                "-Dlog4j2.configurationFile=$here/kafka/log4j2.properties" -cp "$cache/jars/*" kafka.tools.StorageTool \
                format --cluster-id YWNlcXVpYS10ZXN0cy0wMQ --config "$dir/broker-$node.properties" \
                >"$dir/format-$node.log" 2>&1 </dev/null &
            pids+=($!)
        done
        for ((node = 1; node <= brokers; node++)); do
            wait "${pids[node - 1]}" || { cat "$dir/format-$node.log" >&2; fail "could not format the storage of node $node"; }
        done
        touch "$dir/formatted"
    fi
    echo "$brokers" >"$dir/brokers"
    for ((node = 1; node <= brokers; node++)); do
        run_node "$node" "$dir"
    done
    [ -z "$owner" ] || outlive "$owner" "$dir"
    for ((node = 1; node <= brokers; node++)); do
        wait_for_node "$node" "$dir"
    done
}

command=${1:-}
[ $# -gt 0 ] && shift
node="" dir="" port="" brokers=1 signal=TERM owner="" advertised=""
case $command in
stop-broker | start-broker)
    node=${1:-}
    [[ $node =~ ^[1-9][0-9]*$ ]] || usage
    shift
    ;;
esac
while [ $# -gt 0 ]; do
    case $1 in
    --dir) dir=${2:-}; shift 2 ;;
    --port) port=${2:-}; shift 2 ;;
    --brokers) brokers=${2:-}; shift 2 ;;
    --owner) owner=${2:-}; shift 2 ;;
    --advertised) advertised=${2:-}; shift 2 ;;
    --kill) signal=KILL; shift ;;
    *) usage ;;
    esac
done
if [ "$command" = install ]; then
    install_packages
    fetch
    exit
fi
[ -n "$dir" ] || usage
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
if [ -n "$node" ]; then
    [ -f "$dir/broker-$node.properties" ] || fail "there is no node $node in $dir; start a cluster first"
fi

case $command in
start)
    [[ $port =~ ^[0-9]+$ && $brokers =~ ^[1-9][0-9]*$ ]] || usage
    [ -z "$advertised" ] || [ "$brokers" = 1 ] || usage
    need java default-jre-headless
    fetch
    start "$dir" "$port" "$brokers"
    ;;
start-broker)
    need java default-jre-headless
    fetch
    run_node "$node" "$dir"
    wait_for_node "$node" "$dir"
    ;;
stop-broker)
    stop_node "$node" "$dir" "$signal"
    ;;
stop)
    for pid_file in "$dir"/broker-*.pid; do
        [ -f "$pid_file" ] || continue
        node=${pid_file##*/broker-}
        # Together, so that no node waits for peers that are going as well.
        stop_node "${node%.pid}" "$dir" "$signal" &
    done
    wait
    ;;
*) usage ;;
esac

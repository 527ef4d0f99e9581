#!/bin/sh
# A Redis server or a Sentinel, for compose and Kubernetes: `redis.sh server|sentinel`. `redis.sh ready server|sentinel`
# asks the one that runs here whether others may count on it: a server that leads, or has all that its leader has.
#
#   SELF           the name under which the others reach this one
#   FIRST          the server that leads while no Sentinel knows another
#   SENTINELS      host names, separated by blanks
#   PASSWORD_FILE  the password; it goes into a file that only this container has
#   MAXMEMORY      most that a server holds, as Redis writes it (3gb); beyond it writes are refused and nothing is
#                  lost. Below what the container may have: copies for replicas and buffers come besides
#
# Where several share a machine: DATA, the folder (/data); BIND, the address to listen on (all);
# SERVER_PORT and SENTINEL_PORT, the same for all (6379, 26379).
#
# A replica that was away for seconds goes on from where it was: the backlog holds that much media.
#
# Nothing is written to a disk: what must outlive Redis is in the signers' ledger. A server asks the
# Sentinels who leads before it starts, so that a primary that comes back empty follows its successor.
# Sentinels want the password, too: from others they take no orders.
set -eu
password=$(cat "$PASSWORD_FILE")
data=${DATA:-/data}
server_port=${SERVER_PORT:-6379}
sentinel_port=${SENTINEL_PORT:-26379}
umask 077
if [ "$1" = ready ]; then
    ask() { port=$1; shift; REDISCLI_AUTH=$password timeout 2 redis-cli ${BIND:+-h "$BIND"} -p "$port" "$@"; }
    case $2 in
    server) ask "$server_port" info replication | grep -q -e '^role:master' -e '^master_link_status:up' ;;
    sentinel) [ "$(ask "$sentinel_port" ping)" = PONG ] ;;
    esac
    exit
fi
sentinel() {
    REDISCLI_AUTH=$password timeout 2 redis-cli -h "$1" -p "$sentinel_port" --raw sentinel "$2" penstock 2>/dev/null || :
}
leader() {
    for sentinel in $SENTINELS; do
        at=$(sentinel "$sentinel" get-master-addr-by-name | head -n 1)
        case $at in '' | *' '*) ;; *) echo "$at"; return ;; esac
    done
    echo "$FIRST"
}
followed() {
    for sentinel in $SENTINELS; do
        ! sentinel "$sentinel" replicas | grep -q '^role-reported$' || return 0
    done
    return 1
}
lead=$(leader)
echo "${BIND:+bind $BIND}" > "$data/$1.conf"
case $1 in
sentinel)
    printf '%s\n' "port $sentinel_port" "dir $data" "requirepass $password" \
        "sentinel resolve-hostnames yes" "sentinel announce-hostnames yes" \
        "sentinel announce-ip $SELF" \
        "sentinel monitor penstock $lead $server_port 2" "sentinel auth-pass penstock $password" \
        "sentinel down-after-milliseconds penstock 3000" \
        "sentinel failover-timeout penstock 15000" >> "$data/sentinel.conf"
    exec redis-server "$data/sentinel.conf" --sentinel
    ;;
server)
    # Who led, died and is back before anybody noticed is empty: whoever follows would be emptied as well. It waits
    # for its successor.
    tries=30
    while [ "$lead" = "$SELF" ] && [ $tries -gt 0 ] && followed; do
        echo "waiting until a replica leads"
        sleep 1
        tries=$((tries - 1))
        lead=$(leader)
    done
    printf '%s\n' "port $server_port" "dir $data" 'save ""' "appendonly no" \
        "requirepass $password" "masterauth $password" \
        "replica-announce-ip $SELF" "replica-announce-port $server_port" \
        "maxmemory-policy noeviction" "${MAXMEMORY:+maxmemory $MAXMEMORY}" \
        "repl-backlog-size 64mb" "client-output-buffer-limit replica 512mb 256mb 60" >> "$data/server.conf"
    [ "$lead" = "$SELF" ] || echo "replicaof $lead $server_port" >> "$data/server.conf"
    exec redis-server "$data/server.conf"
    ;;
esac

#!/bin/sh
# A Redis server or a Sentinel, for compose and Kubernetes: `redis.sh server|sentinel`.
#
#   SELF           the name under which the others reach this one
#   FIRST          the server that leads while no Sentinel knows another
#   SENTINELS      host names, separated by blanks
#   PASSWORD_FILE  the password; it goes into a file that only this container has
#
# Where several share a machine: DATA, the folder (/data); BIND, the address to listen on (all);
# SERVER_PORT and SENTINEL_PORT, the same for all (6379, 26379).
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
leader() {
    for sentinel in $SENTINELS; do
        at=$(REDISCLI_AUTH=$password redis-cli -h "$sentinel" -p "$sentinel_port" -t 2 --raw \
            sentinel get-master-addr-by-name penstock 2>/dev/null | head -n 1) || continue
        case $at in '' | *' '*) ;; *) echo "$at"; return ;; esac
    done
    echo "$FIRST"
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
    printf '%s\n' "port $server_port" "dir $data" 'save ""' "appendonly no" \
        "requirepass $password" "masterauth $password" \
        "replica-announce-ip $SELF" "replica-announce-port $server_port" \
        "maxmemory-policy noeviction" >> "$data/server.conf"
    [ "$lead" = "$SELF" ] || echo "replicaof $lead $server_port" >> "$data/server.conf"
    exec redis-server "$data/server.conf"
    ;;
esac

#!/bin/sh
# A Redis server or a Sentinel, for compose and Kubernetes: `redis.sh server|sentinel`.
#
#   SELF           the name under which the others reach this one
#   FIRST          the server that leads while no Sentinel knows another
#   SENTINELS      host names, separated by blanks
#   PASSWORD_FILE  the password; it goes into a file that only this container has
#
# Nothing is written to a disk: what must outlive Redis is in the signers' ledger. A server asks the
# Sentinels who leads before it starts, so that a primary that comes back empty follows its successor.
set -eu
password=$(cat "$PASSWORD_FILE")
umask 077
leader() {
    for sentinel in $SENTINELS; do
        at=$(REDISCLI_AUTH=$password redis-cli -h "$sentinel" -p 26379 -t 2 --raw \
            sentinel get-master-addr-by-name penstock 2>/dev/null | head -n 1) || continue
        case $at in '' | *' '*) ;; *) echo "$at"; return ;; esac
    done
    echo "$FIRST"
}
lead=$(leader)
case $1 in
sentinel)
    printf '%s\n' "port 26379" "dir /data" "requirepass $password" \
        "sentinel resolve-hostnames yes" "sentinel announce-hostnames yes" \
        "sentinel announce-ip $SELF" \
        "sentinel monitor penstock $lead 6379 2" "sentinel auth-pass penstock $password" \
        "sentinel down-after-milliseconds penstock 3000" \
        "sentinel failover-timeout penstock 15000" > /data/sentinel.conf
    exec redis-server /data/sentinel.conf --sentinel
    ;;
server)
    printf '%s\n' "port 6379" "dir /data" 'save ""' "appendonly no" \
        "requirepass $password" "masterauth $password" \
        "replica-announce-ip $SELF" "replica-announce-port 6379" \
        "maxmemory-policy noeviction" > /data/redis.conf
    [ "$lead" = "$SELF" ] || echo "replicaof $lead 6379" >> /data/redis.conf
    exec redis-server /data/redis.conf
    ;;
esac

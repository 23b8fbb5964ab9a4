#!/usr/bin/env bash
# Start a server on free ports, translate with it over gRPC, print some of its metrics, and stop it.
# Usage: deploy/demo.sh FOLDER_OF_PROGRAMS MODEL
set -euo pipefail

bin=$1
model=$2
start_limit=120 # seconds; loading takes a few seconds, but more on a busy machine
log=$(mktemp)
server=""

clean_up() {
    [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
    rm -f "$log"
}
trap clean_up EXIT

fail() {
    echo "demo: $1; output of the server:" >&2
    cat "$log" >&2
    exit 1
}

address_of() { # the second column of the line that begins with $1, as `dragoman serve` prints it
    awk -v name="$1" '$1 == name { print $2; exit }' "$log"
}

echo "Starting a server with $model ..."
"$bin/dragoman" serve "$model" --port 0 --metrics-port 0 >"$log" 2>&1 &
server=$!
deadline=$((SECONDS + start_limit))
until grep -qx ready "$log"; do
    kill -0 "$server" 2>/dev/null || fail "the server ended before it was ready"
    [ "$SECONDS" -lt "$deadline" ] || fail "the server was not ready within $start_limit seconds"
    sleep 0.2
done
cat "$log"
grpc=$(address_of gRPC)
metrics=$(address_of metrics)

translate() {
    echo
    sed 's/^/    /' <<<"$1"
    translation=$("$bin/dragoman" translate --server "$grpc" "$1") || fail "a translation failed"
    [ -n "$translation" ] || fail "a translation is empty"
    sed 's/^/ -> /' <<<"$translation"
}

translate "Good morning! How are you?"
translate "Where is the nearest train station?"
translate "I would like to learn German because my best friend lives in Berlin."
translate "It was raining when we arrived. Nobody was waiting for us, so we took a taxi to the hotel.

The next day was better: the sun was shining, and we walked along the river for hours."

printf '\nMetrics, at %s:\n' "$metrics"
"$bin/python" -c 'import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1]).read().decode())' \
    "$metrics" | grep -E '^dragoman_(requests|source_tokens|target_tokens|finished)_total' | sed 's/^/    /' ||
    fail "no metrics"

kill -TERM "$server"
status=0
wait "$server" || status=$?
server=""
[ "$status" -eq 0 ] || fail "the server ended with status $status"
printf '\nThe server has stopped with status 0. To start it again: make serve\n'

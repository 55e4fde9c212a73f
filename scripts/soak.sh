#!/usr/bin/env bash
# Minutes of load over the in-process link, with the engine's memory watched: it must not grow once
# warm, no connection may be lost, and every packet buffer must be back at the end.
# Or simulated worlds (tests/world): as many as asked for, from a random seed on. Ends with the seeds
# that failed, each with the command that replays it.
#
# usage: scripts/soak.sh ENGINE        seconds: SOAK_SECONDS (300)
#        scripts/soak.sh --seeds N     first seed: STOQ_FROM (random)
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ $1 == --seeds ]]; then
    export STOQ_SEEDS=$2 STOQ_FROM=${STOQ_FROM:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
    echo "soak: $STOQ_SEEDS worlds from seed $STOQ_FROM"
    exec "${CARGO:-cargo}" test --release --test world all_seeds -- --nocapture
fi

engine=$1
seconds=${SOAK_SECONDS:-300}
warm=$((seconds / 5))
grown_max_kib=$((8 * 1024))

report=$(mktemp)
pid=
trap '[[ -z $pid ]] || kill "$pid" 2>/dev/null; rm -f "$report"' EXIT

"$engine" run --config configs/loopback.yaml --duration "${seconds}s" --json >"$report" &
pid=$!

resident_kib() { awk '/^VmRSS:/ { print $2 }' "/proc/$pid/status"; }

sleep "$warm"
warm_kib=$(resident_kib)
last_kib=$warm_kib
echo "after ${warm} s: ${warm_kib} KiB resident"
for ((left = seconds - warm - 5; left > 0; left -= 30)); do
    sleep $((left < 30 ? left : 30))
    last_kib=$(resident_kib)
    echo "${last_kib} KiB resident"
done
wait "$pid"
pid=

python3 - "$report" <<'PYTHON'
import json, sys
report = json.load(open(sys.argv[1]))
print(f"{report['goodput_gbps']:.2f} Gbit/s, {report['rx']['frames']} frames received")
if report["mbufs"]["in_use_at_exit"] or report["connections"]["lost"]:
    sys.exit(f"soak: leaked mbufs or lost connections: {report['mbufs']} {report['connections']}")
PYTHON
if ((last_kib - warm_kib > grown_max_kib)); then
    echo "soak: memory grew from ${warm_kib} to ${last_kib} KiB" >&2
    exit 1
fi
echo "soak: OK"

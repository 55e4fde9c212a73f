#!/usr/bin/env bash
# Where the engine's time goes in a bulk transfer over a link, by lcore and kind of work.
#
#   bench/profile.sh [MTU] [SECONDS] [ENGINE]      defaults: 1500 5 target/release/engine
#
# Samples the CPU clock, which needs no hardware counters (virtual machines have none). Needs perf (package linux-perf).
set -euo pipefail
cd "$(dirname "$0")/.."
mtu=${1:-1500}
seconds=${2:-5}
engine=${3:-target/release/engine}
folder=${CARGO_TARGET_DIR:-target}/bench
mkdir -p "$folder"
command -v perf >/dev/null || { echo "perf not found: apt-get install linux-perf" >&2; exit 1; }

# Paths in a configuration are relative to its folder, which this copy leaves.
config=$folder/profile.yaml
sed -E "s/^( +mtu:) [0-9]+/\1 $mtu/; s/idle: adaptive/idle: busy/; s#root: www#root: $PWD/configs/www#" \
    configs/loopback.yaml >"$config"

# The first second is start-up, handshake and MTU discovery.
perf record --quiet --delay 1000 --freq 4000 --event cpu-clock --output "$folder/perf.data" \
    "$engine" run --config "$config" --duration "$((seconds + 1))s" --json \
    2>"$folder/profile.log" | tee "$folder/profile.json" | grep -E '"(goodput_gbps|mtu)"' ||
    { tail -n 5 "$folder/profile.log" >&2; exit 1; }

perf script --input "$folder/perf.data" --fields comm,ip,sym,dso 2>/dev/null | awk '
    function kind(line) {
        if (line ~ /librte|stoq_[rt]x_burst/) return "driver"
        if (line ~ /\[kernel|\[k\]|\[unknown\]/) return "kernel"
        if (line ~ /clock_gettime|Timespec|time::Instant|vdso|idle::Idle/) return "clock, waiting"
        if (line ~ /ring_core|ring::|HeaderProtection|header_crypt|PacketKey|decrypt_header|::crypto::/) return "AEAD, header protection"
        if (line ~ /mem(move|cpy|set)|mi_|mimalloc|malloc|__rust|_rdl_|stoq_(raw_free|alloc_bulk|free_bulk)|bytes::|raw_vec/) return "memory: allocate, free, copy"
        if (line ~ /quinn_proto|rustls|alloc::collections|core::slice|hashbrown|tinyvec|rand/) return "quinn-proto"
        if (line ~ /poll::|stoq::|hugepages::|FnOnce|core::ops/) return "engine: worker, bridge, host, shard"
        return "other"
    }
    $1 ~ /^(engine|rte-worker)/ {
        what = kind($0); count[$1, what]++; total[$1]++; kinds[what] = 1; lcores[$1] = 1
    }
    END {
        for (lcore in lcores) {
            printf "%s, %d samples\n", lcore, total[lcore]
            for (what in kinds)
                if (count[lcore, what])
                    printf "  %5.1f %%  %s\n", 100 * count[lcore, what] / total[lcore], what | "sort -rn"
            close("sort -rn")
        }
    }'

#!/usr/bin/env bash
# The engine on a TAP port serves a file; an independent QUIC client on the kernel's side fetches it.
#
# usage: scripts/demo-tap.sh ENGINE
#
# Everything happens in a network namespace of its own and in a temporary folder; both are gone
# afterwards. Says so and succeeds where the machine does not allow it.
set -euo pipefail
cd "$(dirname "$0")/.."

engine=$(realpath "$1")
python=${CARGO_TARGET_DIR:-target}/venv/bin/python
mebibytes=256

skip() {
    echo "TAP demo skipped: $1"
    exit 0
}
[[ $EUID -eq 0 ]] || skip "a TAP interface needs root; try: sudo env \"PATH=\$PATH\" make demo"
[[ -e /dev/net/tun ]] || skip "this kernel has no /dev/net/tun"
command -v ip >/dev/null || skip "no ip command (iproute2)"

namespace=stoq-demo-$$
folder=$(mktemp -d)
pid=
clean_up() {
    if [[ -n $pid ]]; then
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    fi
    ip netns delete "$namespace" 2>/dev/null || true
    rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

fail() {
    echo "TAP demo failed: $1" >&2
    [[ ! -s $folder/engine.log ]] || tail -n 30 "$folder/engine.log" >&2
    exit 1
}

ip netns add "$namespace" 2>/dev/null || skip "network namespaces are not allowed here"
ip -n "$namespace" link set lo up
mkdir "$folder/www"
head -c $((mebibytes << 20)) /dev/urandom >"$folder/www/file.bin"
sed -E "s|(root: *)[^ ,}]+|\1$folder/www|" configs/tap.yaml >"$folder/tap.yaml"

: >"$folder/engine.log"
echo "== engine on TAP (configs/tap.yaml) serves $mebibytes MiB in a network namespace of its own"
ip netns exec "$namespace" "$engine" run --config "$folder/tap.yaml" \
    >"$folder/engine.out" 2>"$folder/engine.log" </dev/null &
pid=$!
for ((tries = 100; ; tries--)); do
    ! grep -q ready "$folder/engine.log" || break
    ((tries)) && kill -0 "$pid" 2>/dev/null || fail "the engine did not start"
    sleep 0.1
done
ip -n "$namespace" address add fd00:5701::2/64 dev stoq0 nodad
ip -n "$namespace" link set stoq0 up
fingerprint=$(grep -oE -m 1 'sha256:[0-9a-f]{64}' "$folder/engine.log") ||
    fail "no certificate fingerprint in its log"

start=$(date +%s%N)
if [[ -x $python ]]; then
    echo "== client: aioquic (a QUIC stack in Python; the client is the limit)"
    ip netns exec "$namespace" "$python" -B tests/peers/client.py --host fd00:5701::1 \
        --fingerprint "$fingerprint" hq /file.bin --output "$folder" >/dev/null ||
        fail "aioquic could not fetch the file"
else
    echo "== client: the quinn crate (aioquic is not there: make venv)"
    cargo build --quiet --release --example fetch
    start=$(date +%s%N)
    ip netns exec "$namespace" "${CARGO_TARGET_DIR:-target}/release/examples/fetch" \
        '[fd00:5701::1]:4433' /file.bin "$fingerprint" >"$folder/file.bin" ||
        fail "quinn could not fetch the file"
fi
milliseconds=$((($(date +%s%N) - start) / 1000000))

kill "$pid"
wait "$pid" || fail "the engine ended with status $?"
pid=

served=$(sha256sum <"$folder/www/file.bin")
fetched=$(sha256sum <"$folder/file.bin")
bytes=$(stat -c %s "$folder/file.bin")
echo "served   sha256 ${served%% *}"
echo "fetched  sha256 ${fetched%% *}"
[[ $served == "$fetched" ]] || fail "the hashes differ"
echo "OK: $bytes bytes in $milliseconds ms, $((bytes * 8 / milliseconds / 1000)) Mbit/s, equal hashes"

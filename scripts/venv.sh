#!/usr/bin/env bash
# Makes target/venv with aioquic, the independent QUIC stack of the peer tests and the demo.
#
# Quick when it is up to date. Where Python or its package index is out of reach it says so and
# succeeds: the tests that need aioquic are then skipped by name.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${CARGO_TARGET_DIR:-target}/venv
wanted=tests/peers/requirements.txt
stamp=$venv/requirements.txt

cmp -s "$wanted" "$stamp" && [[ -x $venv/bin/python ]] && exit 0

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if { python3 -m venv --clear "$venv" &&
    "$venv/bin/python" -m pip install --disable-pip-version-check -r "$wanted"; } \
    >"$log" 2>&1 </dev/null; then
    cp "$wanted" "$stamp"
else
    rm -rf "$venv"
    echo "venv: no aioquic, so the tests with it are skipped: $(tail -n 1 "$log")" >&2
fi

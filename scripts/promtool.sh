#!/usr/bin/env bash
# Puts Prometheus' promtool into target/tools, for the test that checks the metrics with it.
#
# Quick when it is there. Only the program is taken out of Debian's package: no daemon is installed. Where the package
# is out of reach it says so and succeeds: the test is then skipped by name.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=${CARGO_TARGET_DIR:-target}/tools
if [[ -x $tools/promtool ]] || command -v promtool >/dev/null; then
    exit 0
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

download() { (cd "$folder" && apt-get -o APT::Sandbox::User=root download prometheus); }
update() { [[ $EUID -eq 0 ]] && apt-get update; }
if { download || { update && download; }; } >"$folder/log" 2>&1 </dev/null &&
    dpkg-deb -x "$folder"/prometheus_*.deb "$folder/content" 2>>"$folder/log"; then
    mkdir -p "$tools"
    cp "$folder/content/usr/bin/promtool" "$tools/promtool"
else
    echo "promtool: not to be had, so the test with it is skipped: $(tail -n 1 "$folder/log")" >&2
fi

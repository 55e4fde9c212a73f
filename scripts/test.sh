#!/usr/bin/env bash
# Everything a change has to pass, in the order that fails fastest. Ends with the time each step
# took and with every test that was skipped, and why.
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
times=$(mktemp)
trap 'rm -f "$log" "$times"' EXIT

step() { # step NAME COMMAND...
    local name=$1 start=$SECONDS
    shift
    echo "== $name"
    "$@" 2>&1 | tee -a "$log"
    printf '%-12s %4d s\n' "$name" $((SECONDS - start)) >>"$times"
}

step format cargo fmt --all --check
step clippy cargo clippy --workspace --all-targets -- -D warnings
step doc env RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps
step tests cargo test --workspace

echo
cat "$times"

echo
if grep -q '^skipped: ' "$log"; then
    grep '^skipped: ' "$log" | sort -u
else
    echo "no test was skipped"
fi

# The sum over all test programs. A skipped test counts as passed with libtest; not here.
awk '
    /^test result: / { passed += $4; failed += $6 }
    /^skipped: /     { skipped += 1 }
    END { printf "%d passed, %d failed, %d skipped\n", passed - skipped, failed, skipped }
' "$log"

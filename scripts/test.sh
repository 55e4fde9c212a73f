#!/usr/bin/env bash
# Everything a change has to pass, in the order that fails fastest. Ends, whether it passes or not,
# with the time each step took, every test that was skipped and why, and the sum of all tests.
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
times=$(mktemp)

step() { # step NAME COMMAND...
    local name=$1 start=$SECONDS status=0
    shift
    echo "== $name"
    "$@" 2>&1 | tee -a "$log" || status=$?
    printf '%-8s %4d s\n' "$name" $((SECONDS - start)) >>"$times"
    return "$status"
}

summary() {
    echo
    cat "$times"
    echo
    # libtest may have begun a line before it.
    sed -nE 's/^(test .* \.\.\. )?(skipped: )/\2/p' "$log" | sort -u >"$times"
    if [[ -s $times ]]; then cat "$times"; else echo "no test was skipped"; fi
    # To libtest, a skipped test has passed; here it has not.
    awk -v skipped="$(wc -l <"$times")" '
        /^test result: / { passed += $4; failed += $6 }
        END { printf "%d passed, %d failed, %d skipped\n", passed - skipped, failed, skipped }
    ' "$log"
    rm -f "$log" "$times"
}
trap summary EXIT

# Without the other stacks of the benchmarks, which take minutes to compile: `make lint-peers` has them.
workspace=(--workspace --exclude bench-peers)

scripts/promtool.sh
step format cargo fmt --all --check
step clippy cargo clippy "${workspace[@]}" --all-targets --all-features -- -D warnings
step doc env RUSTDOCFLAGS='-D warnings' cargo doc "${workspace[@]}" --all-features --no-deps
step tests cargo test "${workspace[@]}" --all-features

#!/usr/bin/env bash
# Installs what building and testing need and this machine lacks (Debian, Ubuntu).
#
# Quick and silent when nothing is missing. Installs as root, or through `sudo` when that asks no
# password; otherwise prints the command to run. Fails only when something required is missing.
# Reserves no hugepages: the engine runs without, and `hugepages` says how to get them.
set -euo pipefail

required=() # packages without which nothing builds
optional=() # packages without which some tests are skipped

# need LIST PACKAGE COMMAND...: COMMAND succeeds exactly when PACKAGE is there.
need() {
    local -n list=$1
    local package=$2
    shift 2
    "$@" >/dev/null 2>&1 || list+=("$package")
}

have_libclang() { # bindgen loads libclang.so, by this name or with a version in it
    compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' || compgen -G '/usr/lib/*/libclang*.so*' ||
        compgen -G '/usr/lib*/libclang*.so*' || [[ -n ${LIBCLANG_PATH:-} ]]
}
have_clang_headers() { # stddef.h and its like, which libclang itself does not bring
    compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' ||
        compgen -G '/usr/lib/clang/*/include/stddef.h'
}
have_browser() { # Ubuntu has Chromium as a snap only: nothing is asked of it
    command -v "$1" || grep -sx 'ID=ubuntu' /etc/os-release
}

scan() {
    required=() optional=()
    need required gcc command -v cc
    need required libc6-dev test -e /usr/include/stdlib.h
    need required pkg-config command -v pkg-config
    need required libdpdk-dev pkg-config --exists libdpdk
    need required libclang-dev have_libclang
    need required clang have_clang_headers
    need optional iproute2 command -v ip
    need optional python3 command -v python3
    need optional python3-venv python3 -c 'import ensurepip'
    need optional chromium have_browser chromium
    need optional tshark command -v tshark
    need optional chromium-driver have_browser chromedriver
}

if ! command -v cargo >/dev/null; then
    echo "setup: cargo not found: install Rust from https://rustup.rs, then run this again" >&2
    exit 1
fi

scan
missing=("${required[@]}" "${optional[@]}")
((${#missing[@]})) || exit 0

install=(apt-get install -y --no-install-recommends)
if ! command -v apt-get >/dev/null; then
    echo "setup: missing (Debian's names): ${missing[*]}: install your system's equivalents" >&2
elif [[ $EUID -eq 0 ]]; then
    run=(env DEBIAN_FRONTEND=noninteractive)
elif sudo -n true 2>/dev/null; then
    run=(sudo -n env DEBIAN_FRONTEND=noninteractive)
else
    echo "setup: missing; as root: apt-get update;" \
        "for package in ${missing[*]}; do ${install[*]} \$package; done" >&2
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { # quiet unless it fails
    "${run[@]}" "$@" >"$log" 2>&1 </dev/null || tail -n 20 "$log" >&2
}
if [[ -v run ]]; then
    echo "setup: installing ${missing[*]}"
    apt apt-get update
    if ((${#required[@]})); then
        apt "${install[@]}" "${required[@]}"
    fi
    # Each by itself: one that this system does not have keeps nothing else away.
    for package in "${optional[@]}"; do
        apt "${install[@]}" "$package"
    done
    hash -r
    scan
fi

if ((${#optional[@]})); then
    echo "setup: without ${optional[*]} some tests are skipped" >&2
fi
if ((${#required[@]})); then
    echo "setup: cannot build without: ${required[*]}" >&2
    exit 1
fi

#!/usr/bin/env bash
# Installs what the comparison with other stacks needs beyond building and testing (Debian, Ubuntu): `make bench` only.
#
# Quick and silent when nothing is missing. Installs as root, or through `sudo` when that asks no password; otherwise
# prints the command to run. Fails only when something required is missing.
set -euo pipefail

required=() # without these the other stacks do not build
optional=() # without these some cells of the table fail, and say so
scan() {
    required=() optional=()
    command -v cmake >/dev/null || required+=(cmake) # BoringSSL, for quiche
    command -v c++ >/dev/null || required+=(g++)
    command -v ip >/dev/null || optional+=(iproute2) # namespaces, veth pairs, bridges
    command -v ethtool >/dev/null || optional+=(ethtool) # devices without segmentation offload
    command -v sysctl >/dev/null || optional+=(procps)
}

scan
missing=("${required[@]}" "${optional[@]}")
((${#missing[@]})) || exit 0

install=(apt-get install -y --no-install-recommends "${missing[@]}")
if [[ $EUID -eq 0 ]]; then
    run=(env DEBIAN_FRONTEND=noninteractive)
elif sudo -n true 2>/dev/null; then
    run=(sudo -n env DEBIAN_FRONTEND=noninteractive)
else
    echo "setup-bench: missing; as root: apt-get update; ${install[*]}" >&2
fi
if [[ -v run ]] && command -v apt-get >/dev/null; then
    echo "setup-bench: installing ${missing[*]}"
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    { "${run[@]}" apt-get update && "${run[@]}" "${install[@]}"; } >"$log" 2>&1 </dev/null || tail -n 20 "$log" >&2
    hash -r
    scan
fi

if ((${#optional[@]})); then
    echo "setup-bench: without ${optional[*]} parts of the table are missing" >&2
fi
if ((${#required[@]})); then
    echo "setup-bench: cannot build the other stacks without: ${required[*]}" >&2
    exit 1
fi

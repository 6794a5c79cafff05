# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What the tests here say and check, step by step; sourced. The first step that fails ends them.

say() { printf '\n== %s\n' "$*"; }

# check DESCRIPTION COMMAND...
check() {
    local what=$1
    shift
    if "$@"; then
        echo "ok: $what"
    else
        echo "NOT ok: $what" >&2
        exit 1
    fi
}

# same FOUND EXPECTED
same() { [ "$1" = "$2" ] || { printf 'expected: %s\nfound:    %s\n' "$2" "$1" >&2; return 1; }; }

# The file that tells why, when what is waited for does not come.
log=/dev/null

# wait_for DESCRIPTION COMMAND...: until it succeeds, for a minute.
wait_for() {
    local what=$1
    shift
    for _ in $(seq 300); do
        if "$@" >/dev/null 2>&1; then
            echo "ok: $what"
            return
        fi
        sleep 0.2
    done
    echo "NOT ok: $what, not within a minute" >&2
    cat "$log" >&2
    exit 1
}

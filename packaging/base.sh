#!/bin/sh
# SPDX-License-Identifier: MIT
# A fresh, small Debian 12 as a tar file, made by debootstrap (as root) when it is not there yet; prints
# its path. It is kept in ${TMPDIR:-/tmp}.
set -eu

# Besides the package's own needs: what looks at it (systemd is not run).
included=adduser,ca-certificates,logrotate,man-db,procps,python3,systemd
file=${TMPDIR:-/tmp}/smtpmailer-bookworm-$(echo "$included" | cksum | cut -d' ' -f1).tar

if [ ! -e "$file" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    debootstrap --variant=minbase --include="$included" bookworm "$work/tree" >"$work/log" 2>&1 || {
        tail -n 20 "$work/log" >&2
        exit 1
    }
    chmod 755 "$work/tree"
    rm -f "$work/tree/var/cache/apt/archives/"*.deb
    tar --create --one-file-system --directory="$work/tree" --file="$work/tar" .
    mv "$work/tar" "$file"
fi
echo "$file"

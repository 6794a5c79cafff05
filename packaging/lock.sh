#!/bin/sh
# SPDX-License-Identifier: MIT
# Pin the bundled environment (Debian package, container) and the Debian build's test tools, with
# hashes: packaging/requirements.lock and packaging/requirements-test.lock.
# lock.sh [--upgrade]; without --upgrade versions stay that still fit setup.py.
set -eu
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet --disable-pip-version-check uv

# compile OUTPUT ARGUMENT...: pins for CPython 3.11 on Linux, Debian 12's; hashes of all platforms.
compile() {
    out=$1
    shift
    touch "$out"
    grep -v '^#' "$out" >"$work/pins" || true
    "$work/tools/bin/uv" pip compile --quiet --python-version 3.11 --python-platform linux \
        --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
        --output-file "$work/pins" "$@"
    {
        echo "# Made by packaging/lock.sh (make lock) from setup.py and packaging/*.in; not edited by hand."
        grep -v '^#' "$work/pins"
    } >"$work/new"
    cat "$work/new" >"$out"
}

compile packaging/requirements.lock "$@" setup.py packaging/build.in
compile packaging/requirements-test.lock "$@" --constraint packaging/requirements.lock packaging/test.in

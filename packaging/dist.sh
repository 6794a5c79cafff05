#!/bin/sh
# SPDX-License-Identifier: MIT
# Build the source distribution, and the wheel from it, and check both: dist.sh [DIRECTORY] (dist)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=${1:-$here/../dist}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/source.sh" "$work/source"
python3 -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet --disable-pip-version-check build twine
"$work/tools/bin/python" -m build --outdir "$work/dist" "$work/source" >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    exit 1
}
"$work/tools/bin/twine" check --strict "$work/dist/"*
mkdir -p "$target"
cp "$work/dist/"* "$target"
ls -l "$target"

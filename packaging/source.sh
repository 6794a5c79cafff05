#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copy the source into a new directory, so that nothing is built in the checkout: source.sh DIRECTORY
set -euo pipefail
target=$(realpath --canonicalize-missing "$1")
cd "$(dirname "$0")/.."

mkdir -p "$target"
if [ -e .git ]; then
    # What is tracked, or new and not ignored; but not what is deleted and not committed yet.
    git ls-files -z --cached --others --exclude-standard |
        while IFS= read -r -d '' file; do [ -e "$file" ] && printf '%s\0' "$file"; done |
        tar --create --null --no-recursion --files-from=- | tar --extract --directory="$target"
else
    tar --create --exclude=./dist --exclude=./build --exclude=./.venv . | tar --extract --directory="$target"
fi

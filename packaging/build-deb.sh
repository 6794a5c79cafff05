#!/bin/sh
# SPDX-License-Identifier: MIT
# Build the Debian packages from a copy of the source, and check them with lintian:
# build-deb.sh [DIRECTORY] (dist). Needs the packages of Build-Depends, dpkg-dev and lintian.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=${1:-$here/../dist}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/source.sh" "$work/smtpmailer"
(cd "$work/smtpmailer" && dpkg-buildpackage -us -uc -b)
lintian --fail-on error --suppress-tags initial-upload-closes-no-bugs "$work"/*.changes
mkdir -p "$target"
cp "$work"/*.deb "$work"/*.changes "$work"/*.buildinfo "$target"
ls -l "$target"/*.deb

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Build the Debian package that an upgrade begins with, from the commit or tag that packaging/previous names, and
# without running its tests: build-previous.sh FILE
# Its version is its own, or, where that is not lower than today's, today's with ~previous. PREVIOUS in the environment
# names another commit. It ends with status 3 where there is nothing to build from: no history, no git, a shallow clone.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=$(realpath "$1")
commit=${PREVIOUS:-$(grep -v '^#' "$here/previous")}

# Only what git has is read, and nothing of the checkout is changed.
from_git() { git --git-dir="$here/../.git" "$@"; }

version_of() { dpkg-parsechangelog --file "$1/debian/changelog" --show-field Version; }

# missing WHAT: there is nothing to build from.
missing() {
    echo "$commit can't be built: $1" >&2
    exit 3
}

[ -e "$here/../.git" ] || missing "this is a copy of the source without its history"
command -v git >/dev/null || missing "git is not installed"
from_git cat-file -e "$commit^{commit}" 2>/dev/null || missing "this repository does not have it; is it a shallow clone?"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/smtpmailer"
from_git archive --format=tar "$commit" | tar --extract --directory="$work/smtpmailer"
version=$(version_of "$work/smtpmailer")
today=$(version_of "$here/..")
if ! dpkg --compare-versions "$version" lt "$today"; then
    version=$today~previous
    sed -i "1s/(.*)/($version)/" "$work/smtpmailer/debian/changelog"
fi
cd "$work/smtpmailer"
DEB_BUILD_OPTIONS=nocheck DEB_BUILD_PROFILES=nocheck dpkg-buildpackage -us -uc -b >"$work/log" 2>&1 || {
    tail -n 30 "$work/log" >&2
    exit 1
}
echo "smtpmailer $version: $(from_git log -1 --format='commit %h of %cs, %s' "$commit")"
cp "$work/smtpmailer_${version}_"*.deb "$target"

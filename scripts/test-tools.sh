#!/bin/sh
# SPDX-License-Identifier: MIT
# See to it that the servers which the tests talk to are there, and the languages of the clients in
# clients/; installs what is missing when it may.
set -eu

PATH=$PATH:/usr/sbin:/sbin
export PATH

missing=
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
command -v postfix >/dev/null 2>&1 || missing="$missing postfix"
command -v bsd-mailx >/dev/null 2>&1 || missing="$missing bsd-mailx"
command -v go >/dev/null 2>&1 || missing="$missing golang-go"
command -v node >/dev/null 2>&1 || missing="$missing nodejs"
command -v openssl >/dev/null 2>&1 || missing="$missing openssl"
command -v php >/dev/null 2>&1 || missing="$missing php-cli"
command -v ruby >/dev/null 2>&1 || missing="$missing ruby"
# Another nc has other options.
nc -h 2>&1 | grep -q OpenBSD || missing="$missing netcat-openbsd"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "The tests need these programs, please install them:$missing" >&2
    echo "On Debian or Ubuntu: sudo apt-get install$missing" >&2
    exit 1
fi

echo "Installing for the tests:$missing"
export DEBIAN_FRONTEND=noninteractive
# Nothing is to be started by its package: the tests start what they need themselves.
policy=/usr/sbin/policy-rc.d
made=
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made=yes
fi
trap '[ -z "$made" ] || rm -f "$policy"' EXIT
apt-get update -q
# shellcheck disable=SC2086 # a list of package names
apt-get install -q -y --no-install-recommends $missing

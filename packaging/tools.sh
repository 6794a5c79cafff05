#!/bin/sh
# SPDX-License-Identifier: MIT
# See to it that what builds and checks the packages is there (Debian 12): tools.sh deb|check|chroot|container
# Installs what is missing when it may.
set -eu

case ${1:-} in
    deb) wanted="bash-completion debhelper dh-virtualenv dpkg-dev fakeroot lintian python3-dev python3-venv redis-server" ;;
    check) wanted="apparmor haproxy libnginx-mod-stream logrotate nginx-light python3-venv shellcheck systemd" ;;
    chroot) wanted="debootstrap iproute2 util-linux" ;;
    container) wanted="buildah debootstrap util-linux" ;;
    *) echo "tools.sh deb|check|chroot|container" >&2; exit 2 ;;
esac

missing=
for package in $wanted; do
    # shellcheck disable=SC2016 # a variable of dpkg-query
    case $(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) in
        installed) ;;
        *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "Please install these packages: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi

echo "Installing:$missing"
export DEBIAN_FRONTEND=noninteractive
# Nothing is to be started by its package.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
apt-get update -q
# shellcheck disable=SC2086 # a list of package names
apt-get install -q -y --no-install-recommends $missing

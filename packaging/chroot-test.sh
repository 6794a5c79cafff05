#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The Debian packages in a fresh Debian 12: install an earlier build, configure, send, upgrade with mails
# queued, remove, purge, each looked at. Needs root, debootstrap, iproute2 and util-linux, and for the earlier
# build what build-deb.sh needs; nothing of it touches this machine's own packages, and the network inside is
# a loopback of its own.
#
# chroot-test.sh [DIRECTORY of the built packages] (dist; built when there are none)
# base.sh makes the fresh system, build-previous.sh the earlier package.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$here/steps.sh"
# shellcheck source-path=SCRIPTDIR source=chroot-upgrade.sh
. "$here/chroot-upgrade.sh"

# --- what is done outside: a file tree to work in

# make_previous PACKAGE TARGET: an earlier build; where none can be made, today's files with a lower version.
make_previous() {
    local deb=$1 target=$2 tree status=0
    say "the package to begin with"
    "$here/build-previous.sh" "$target" || status=$?
    if [ "$status" = 3 ]; then
        echo "NOT an earlier build: the files of today's package with a lower version, so this upgrade proves little"
        tree=$(mktemp -d)
        dpkg-deb --raw-extract "$deb" "$tree"
        sed -i 's/^Version: .*/&~previous/' "$tree/DEBIAN/control"
        dpkg-deb --root-owner-group -Zgzip -z1 --build "$tree" "$target" >/dev/null
        rm -rf "$tree"
    elif [ "$status" != 0 ]; then
        exit "$status"
    fi
}

outside() {
    local packages=${1:-$here/../dist} root
    compgen -G "$packages/smtpmailer_*.deb" >/dev/null || "$here/build-deb.sh" "$packages"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    root=$work/root
    mkdir -p "$root"
    tar --extract --directory="$root" --file="$("$here/base.sh")"
    mkdir "$root/packages"
    cp "$packages"/smtpmailer_*.deb "$root/packages/smtpmailer.deb"
    cp "$packages"/smtpmailer-sendmail_*.deb "$root/packages/smtpmailer-sendmail.deb"
    cp "$here/fussy_server.py" "$root/packages/"
    make_previous "$root/packages/smtpmailer.deb" "$root/packages/previous.deb"
    # Its processes and mounts are gone when it ends.
    unshare --mount --net --pid --fork --kill-child "$here/chroot-test.sh" --inside "$root"
}

# --- what is done inside

in_root() { "${enter[@]}" "$@"; }

apt() {
    in_root apt-get --quiet --quiet --yes --option=Dpkg::Use-Pty=0 "--option=DPkg::Path=$search" "$@" 2>&1 |
        grep -v '^(Reading database'
}

state_of() { in_root stat --format='%a %U:%G' "$1"; }

setting() { sed -i "s|^$1 = .*|$1 = $2|" "$root/etc/smtpmailer/env"; }

caught() { [ "$(find "$root/tmp/trap" -name '*.eml' | wc -l)" = "$1" ]; }

# subjects_caught PATTERN: how often each subject of these mails was caught.
subjects_caught() {
    grep -hE "^Subject: $1" "$root"/tmp/trap/*.eml | tr -d '\r' | cut -d' ' -f2- | sort | uniq -c | sed 's/^ *//'
}

queued() { find "$root/var/lib/smtpmailer/Queue/mail" -name 'mail_*.json' | wc -l; }

is_ready() { grep -q READY=1 "$root/tmp/notified"; }

# The unit's command, as its user, told as systemd would where to say that it is ready.
start_service() {
    local unit=$root/lib/systemd/system/smtpmailer.service options command
    # shellcheck disable=SC2016 # a variable of the unit's EnvironmentFile=
    options=$(in_root sh -c '. /etc/default/smtpmailer; echo "$TWISTD_OPTIONS"')
    command=$(sed -n "s|\$TWISTD_OPTIONS|$options|; s/^ExecStart=//p" "$unit")
    # What RuntimeDirectory= makes.
    in_root install -d -o smtpmailer -g smtpmailer -m 0750 /run/smtpmailer
    : >"$root/tmp/notified"
    # Not through in_root: $! has to be the program's own process.
    "${enter[@]}" python3 - <<'PYTHON' >"$root/tmp/notified" &
import os, socket

with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
    if os.path.exists("/run/notify"):
        os.unlink("/run/notify")
    listening.bind("/run/notify")
    os.chmod("/run/notify", 0o777)
    while True:
        print(listening.recv(4096).decode(), flush=True)
PYTHON
    listener=$!
    while [ ! -S "$root/run/notify" ]; do sleep 0.1; done
    # shellcheck disable=SC2086 # a command with its arguments
    "${enter[@]}" setpriv --reuid=smtpmailer --regid=smtpmailer --init-groups --no-new-privs \
        env --chdir=/var/lib/smtpmailer NOTIFY_SOCKET=/run/notify $command >>"$root/tmp/service.log" 2>&1 &
    service=$!
}

stop_service() {
    local status=0
    kill -TERM "$service"
    wait "$service" || status=$?
    kill "$listener"
    wait "$listener" || true
    rm -f "$root/run/notify"
    return "$status"
}

# start_trap PORT [OPTION...]: what comes there lies in /tmp/trap; $trap is the process.
start_trap() {
    "${enter[@]}" setpriv --reuid=nobody --regid=nogroup --clear-groups \
        smtpmailer trap --dir /tmp/trap --port "$@" >>"$root/tmp/trap.log" 2>&1 &
    trap=$!
}

# queue_mail RECIPIENTS SUBJECT TIME [FIELDS]
queue_mail() {
    local to
    # shellcheck disable=SC2086 # several words
    to=$(printf '"%s@example.com",' $1)
    printf '{"queueMail":{"to":[%s],"ccList":[],"bccList":[],"subject":"%s","scheduleTime":%s,%s}}' \
        "${to%,}" "$2" "$3" "${4:-\"body\":\"<p>Hello</p>\"}" | in_root smtpmailer request
}

settings_are_valid() { in_root smtpmailer check-config --env /etc/smtpmailer/env >/dev/null; }

exposure_is_small() {
    in_root systemd-analyze security --offline=true --no-pager --threshold=20 smtpmailer.service | tail -n 1
}

pages_are_clean() {
    local page faults
    for page in $(in_root dpkg -L smtpmailer | grep '/man/man.*gz$'); do
        faults=$(in_root env MANROFFSEQ= MANWIDTH=80 man --warnings --encoding=UTF-8 --local-file --troff-device=utf8 --ditroff "$page" 2>&1 >/dev/null)
        [ -z "$faults" ] || { echo "$page: $faults" >&2; return 1; }
    done
}

# What becomes of "smtpmailer gen" and the tab key.
completed_by_bash() {
    in_root bash <<'BASH'
. /usr/share/bash-completion/completions/smtpmailer
COMP_WORDS=(smtpmailer gen) COMP_CWORD=1
_smtpmailer_completion smtpmailer gen smtpmailer
echo "${COMPREPLY[@]}"
BASH
}

# zsh is not there: what its function calls, and finds in lines of kind, word, help.
completed_for_zsh() {
    grep -q _SMTPMAILER_COMPLETE=zsh_complete "$root/usr/share/zsh/vendor-completions/_smtpmailer" &&
        in_root env COMP_WORDS="smtpmailer gen" COMP_CWORD=1 _SMTPMAILER_COMPLETE=zsh_complete smtpmailer | sed -n 2p
}

test_install() {
    say "install"
    apt install /packages/previous.deb | tee "$root/tmp/install.log"
    check "it says what to edit" grep -q 'Put your SMTP server' "$root/tmp/install.log"
    check "and what is wrong" grep -q 'SMTP_HOST has to be' "$root/tmp/install.log"
    check "the user is a system user without a shell" \
        same "$(in_root getent passwd smtpmailer | cut -d: -f6,7)" /var/lib/smtpmailer:/usr/sbin/nologin
    check "the settings are for root and the service" same "$(state_of /etc/smtpmailer/env)" "640 root:smtpmailer"
    check "they hold a secret key" grep -qE '^SECRET_KEY = "[A-Za-z0-9+/]{22}=="$' "$root/etc/smtpmailer/env"
    check "the state is the service's" same "$(state_of /var/lib/smtpmailer)" "750 smtpmailer:smtpmailer"
    check "the queue is for nobody else" same "$(state_of /var/lib/smtpmailer/Queue)" "700 smtpmailer:smtpmailer"
    check "templates lie beside it" same "$(state_of /var/lib/smtpmailer/Template/html)" "750 smtpmailer:smtpmailer"
    check "and attachments" same "$(state_of /var/lib/smtpmailer/Attachments)" "750 smtpmailer:smtpmailer"
    check "the command runs" in_root smtpmailer --version
    check "the unit is in order" in_root systemd-analyze verify /lib/systemd/system/smtpmailer.service
    check "it exposes little" exposure_is_small
    check "it is enabled" in_root systemctl is-enabled smtpmailer.service
    check "the log rotation is in order" in_root logrotate --debug /etc/logrotate.d/smtpmailer 2>/dev/null
    check "the manual pages are clean" pages_are_clean
    check "bash completes" same "$(completed_by_bash)" generate-key
    check "zsh completes" same "$(completed_for_zsh)" generate-key
    check "nothing has to be compiled at a start" \
        test -d "$root/usr/lib/smtpmailer/lib/python3.11/site-packages/smtpmailer/__pycache__"
}

test_service() {
    say "configure and start"
    start_trap 1025
    start_service
    local status=0
    wait "$service" || status=$?
    check "without an SMTP server it ends with status 1" same "$status" 1
    check "and says why" grep -q 'SMTP_HOST has to be' "$log"
    kill "$listener"
    wait "$listener" || true
    setting SMTP_HOST '"127.0.0.1"'
    setting SMTP_PORT 1025
    setting SMTP_ENCRYPTION none
    setting MAIL_FROM_ADDR '"mailer@example.com"'
    setting MAILER_QUEUE_API_READ_ONLY false
    setting QUEUE_RETRY_DELAY 3600
    # The trap's certificate is its own.
    setting SMTP_TLS_VERIFY false
    in_root smtpmailer check-config --env /etc/smtpmailer/env >"$root/tmp/config"
    check "check-config is content" grep -q '^QUEUE_DIR .*= /var/lib/smtpmailer/Queue/mail' "$root/tmp/config"
    start_service
    wait_for "it tells systemd that it is ready" is_ready
    check "it answers" in_root smtpmailer ping --env /etc/smtpmailer/env
    say "send"
    in_root smtpmailer send --to ada@example.com --subject Now --body Hello
    wait_for "the mail is in the trap" caught 1
    queue_mail bob Queued 0
    wait_for "so is one through the queue" caught 2
}

test_log_file() {
    say "the log file"
    check "it is the service's alone" same "$(state_of /var/log/smtpmailer/smtpmailer.log)" "600 smtpmailer:smtpmailer"
    in_root logrotate --force /etc/logrotate.d/smtpmailer
    # What the unit's reload does, and postrotate where systemd runs.
    kill -HUP "$service"
    wait_for "a new one is begun when it is rotated" test -s "$log" -a -s "$log.1"
}

test_sendmail() {
    say "the sendmail command"
    apt install /packages/smtpmailer-sendmail.deb
    check "/usr/sbin/sendmail is the alternative" same "$(in_root readlink -f /usr/sbin/sendmail)" /usr/libexec/smtpmailer/sendmail
    check "users can leave files, and not see those of others" same "$(state_of /var/spool/smtpmailer)" "3733 root:smtpmailer"
    printf 'From: root@example.com\nTo: dora@example.com\nSubject: cron\n\nIt ran.\n' |
        check "any user can send" in_root runuser -u nobody -- /usr/sbin/sendmail -t -i
    wait_for "the mail is in the trap" caught 15
    in_root python3 - <<'PYTHON' | check "with a file attached, too" in_root runuser -u nobody -- /usr/sbin/sendmail -t -oi
from email.message import EmailMessage

message = EmailMessage()
message["From"], message["To"], message["Subject"] = "root@example.com", "dora@example.com", "file"
message.set_content("See the file.")
message.add_attachment(b"abc" * 100, maintype="application", subtype="octet-stream", filename="data.bin")
print(message.as_string())
PYTHON
    wait_for "it is in the trap" caught 16
    check "with the file" grep -q data.bin "$(newest_mail)"
    apt remove smtpmailer-sendmail
    check "the alternative goes with the package" test ! -e "$root/usr/sbin/sendmail"
    printf '#!/bin/sh\n' >"$root/usr/sbin/sendmail"
    apt install /packages/smtpmailer-sendmail.deb
    check "a mail server's own command is left alone" test ! -L "$root/usr/sbin/sendmail"
    rm "$root/usr/sbin/sendmail"
    apt purge smtpmailer-sendmail
}

test_removal() {
    say "remove"
    local settings
    queue_mail erik Later "$(($(date +%s) + 86400))"
    check "the service ends with status 0" stop_service
    settings=$(sha256sum <"$root/etc/smtpmailer/env")
    apt remove smtpmailer
    check "the program is gone" test ! -e "$root/usr/bin/smtpmailer" -a ! -e "$root/usr/lib/smtpmailer"
    check "the mails still wait" same "$(queued)" 3
    check "the settings stay" same "$(sha256sum <"$root/etc/smtpmailer/env")" "$settings"
    say "install again"
    apt install /packages/smtpmailer.deb
    check "the settings are the same" same "$(sha256sum <"$root/etc/smtpmailer/env")" "$settings"
    start_service
    wait_for "it is ready" is_ready
    check "the mails still wait, and can be read" in_root smtpmailer queue list --long
    stop_service
    say "purge"
    apt purge smtpmailer | tee "$root/tmp/purge.log"
    check "it says what it takes" grep -q 'Queue: 3 waiting mails' "$root/tmp/purge.log"
    for left in /var/lib/smtpmailer /var/log/smtpmailer /etc/smtpmailer /etc/default/smtpmailer /usr/lib/smtpmailer; do
        check "$left is gone" test ! -e "$root$left"
    done
}

inside() {
    root=$1
    search=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    enter=(chroot "$root" env -i "PATH=$search"
        LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive)
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount -t tmpfs tmpfs "$root/run"
    mount -t tmpfs tmpfs "$root/dev/shm" 2>/dev/null || true
    ip link set lo up
    # Packages start nothing here.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    log=$root/tmp/service.log
    : >"$log"
    test_install
    test_service
    test_queueing
    test_upgrade
    test_log_file
    test_sendmail
    test_removal
    say "all well"
}

if [ "${1:-}" = --inside ]; then inside "$2"; else outside "$@"; fi

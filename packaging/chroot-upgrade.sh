# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034,SC2154
# The part of chroot-test.sh about the upgrade; sourced there, and uses its functions and variables. The earlier build
# leaves mails of all sorts, today's sends them.

# is_listed SUBJECT TRIES: whether a mail waits that was tried so often.
is_listed() { in_root smtpmailer queue list --long | grep -qE " $2 +[^ ].* $1\$"; }

is_dead() { in_root smtpmailer queue failed list --long | grep -q " $1  .*never@example.com: 550 5.1.1 no such user"; }

# leave_mails KIND TIME: queue one mail of each sort, their subjects beginning with KIND. The last two are tried
# at once, by a server that refuses some recipients.
leave_mails() {
    local body='"body":"<p>Hello</p>"' home=/var/lib/smtpmailer
    queue_mail carol "$1 plain" "$2"
    queue_mail carol "$1 with a file" "$2" "$body,\"attachments\":[[\"$home/Attachments/report.bin\"]]"
    queue_mail carol "$1 from a template" "$2" '"useTemplate":"letter.html","replaceContent":{"name":"Carol"}'
    queue_mail carol "$1 by its own server" "$2" \
        "$body,\"smtpHost\":\"127.0.0.1\",\"smtpPort\":1587,\"smtpEncryption\":\"tls\",\"smtpUser\":\"carol\",\"smtpPassword\":\"s3cret\""
    queue_mail carol "$1 for tomorrow" "$(($2 + 86400))"
    queue_mail "done later" "$1 in part" 0
    queue_mail never "$1 refused" 0
    wait_for "one was sent to one of two, the other is tried again later" is_listed "$1 in part" 1
    wait_for "one was refused for good" is_dead "$1 refused"
}

waiting_files() { find "$root/var/lib/smtpmailer/Queue" -name 'mail_*' -printf '%P\n' | sort; }

# How many mails are left in a directory of the queue.
left_in() { waiting_files | grep -c "^$1/mail_"; }

files_with() { grep -rl "$1" "$root/var/lib/smtpmailer/Queue" | wc -l; }

only_left() { same "$(left_in "$1")" "$2"; }

newest_mail() { find "$root/tmp/trap" -name '*.eml' | sort | tail -n 1; }

files_are_whole() {
    in_root python3 - <<'PYTHON'
import email
from pathlib import Path

sent = Path("/var/lib/smtpmailer/Attachments/report.bin").read_bytes()
mails = [email.message_from_bytes(path.read_bytes()) for path in Path("/tmp/trap").glob("*.eml")]
parts = [part for mail in mails for part in mail.walk() if part.get_filename() == "report.bin"]
raise SystemExit([part.get_payload(decode=True) for part in parts] != [sent, sent])
PYTHON
}

# Run it as where systemd runs; what that is told lies in /tmp/told, and nothing is done.
with_systemd() {
    local tool
    mkdir -p "$root/run/systemd/system"
    : >"$root/tmp/told"
    for tool in deb-systemd-invoke systemctl; do
        printf '#!/bin/sh\necho "$@" >>/tmp/told\n' >"$root/usr/local/sbin/$tool"
        chmod 755 "$root/usr/local/sbin/$tool"
    done
    "$@"
    rm "$root/usr/local/sbin/deb-systemd-invoke" "$root/usr/local/sbin/systemctl"
    rmdir "$root/run/systemd/system"
}

told() { grep -v daemon-reload "$root/tmp/told"; }

test_queueing() {
    say "what the earlier build leaves in the queue"
    local due fussy state=$root/var/lib/smtpmailer
    kill "$trap"
    wait "$trap" || true
    "${enter[@]}" python3 /packages/fussy_server.py 1025 >"$root/tmp/fussy.log" 2>&1 &
    fussy=$!
    in_root install -d -o smtpmailer /var/lib/smtpmailer/Attachments
    head -c 100000 /dev/urandom >"$state/Attachments/report.bin"
    echo '<p>Dear {{name}}</p>' >"$state/Template/html/letter.html"
    chmod 644 "$state/Attachments/report.bin" "$state/Template/html/letter.html"
    due=$(($(date +%s) + 60))
    leave_mails Open "$due"
    check "passwords of mails are encrypted" same "$(files_with s3cret)" 0
    say "the same, encrypted as a whole, with the log in a file"
    setting QUEUE_FULL_ENCRYPT true
    sed -i 's/^#TWISTD_OPTIONS/TWISTD_OPTIONS/' "$root/etc/default/smtpmailer"
    log=$root/var/log/smtpmailer/smtpmailer.log
    check "the service ends with status 0" stop_service
    start_service
    wait_for "it is ready" is_ready
    leave_mails Sealed "$due"
    check "their subjects can't be read on the disk, those of the others can" same "$(files_with Sealed) $(files_with Open)" "0 7"
    check "twelve mails wait, two are dead letters" same "$(queued) $(left_in failed)" "12 2"
    check "whom the server took mails for" same "$(sort "$root/tmp/fussy.log" | uniq -c | xargs)" "2 done@example.com"
    kill "$fussy"
    wait "$fussy" || true
    echo s3cret >"$root/tmp/password"
    chmod 644 "$root/tmp/password"
    start_trap 1588 --starttls-port 1587 --user carol --password-file /tmp/password
    start_trap 1025
}

test_upgrade() {
    say "upgrade"
    local files settings names kind
    files=$(waiting_files)
    settings=$(cat "$root/etc/smtpmailer/env" "$root/etc/default/smtpmailer" | sha256sum)
    with_systemd apt install /packages/smtpmailer.deb
    check "systemd is told to start it again, and nothing before" same "$(told)" "restart smtpmailer.service"
    # shellcheck disable=SC2016 # a variable of dpkg-query
    check "the new release is installed" same "$(in_root dpkg-query --show --showformat='${Version}' smtpmailer)" \
        "$(dpkg-deb --field "$root/packages/smtpmailer.deb" Version)"
    check "the settings are as they were" \
        same "$(cat "$root/etc/smtpmailer/env" "$root/etc/default/smtpmailer" | sha256sum)" "$settings"
    check "and their mode" same "$(state_of /etc/smtpmailer/env)" "640 root:smtpmailer"
    check "the new release takes them" settings_are_valid
    check "the same mails wait" same "$(waiting_files)" "$files"
    check "the old process still answers" in_root smtpmailer ping
    check "and ends with status 0" stop_service
    start_service
    wait_for "the new one is ready" is_ready
    wait_for "what is due now arrives" caught 10
    check "once each" same "$(subjects_caught '(Open|Sealed)')" "1 Open by its own server
1 Open from a template
1 Open plain
1 Open with a file
1 Sealed by its own server
1 Sealed from a template
1 Sealed plain
1 Sealed with a file"
    check "with the files" files_are_whole
    check "with the templates' texts" same "$(grep -l 'Dear Carol' "$root"/tmp/trap/*.eml | wc -l)" 2
    check "with the mails' own passwords" same "$(grep -l '"user": "carol"' "$root"/tmp/trap/*.json | wc -l)" 2
    for kind in Open Sealed; do
        check "$kind: what was tried once waits for its hour" is_listed "$kind in part" 1
        check "$kind: what is for tomorrow waits" is_listed "$kind for tomorrow" 0
        check "$kind: what was refused is a dead letter" is_dead "$kind refused"
    done
    say "what is sent later, from the earlier build's history"
    names=$(in_root smtpmailer queue list --long | awk '/ in part$/ { print $1 }')
    # shellcheck disable=SC2086 # several names
    in_root smtpmailer queue retry $names
    in_root smtpmailer queue retry --all
    wait_for "they arrive" caught 14
    check "once each" same "$(subjects_caught '.* (in part|refused)')" "1 Open in part
1 Open refused
1 Sealed in part
1 Sealed refused"
    check "not again to who had them" same "$(grep -l done@ "$root"/tmp/trap/*.json | wc -l)" 0
    wait_for "only what is for tomorrow is left" only_left mail 2
    check "and no dead letter" only_left failed 0
    say "settings that a release refuses"
    setting SMTP_PORT 99999
    with_systemd apt install --reinstall /packages/smtpmailer.deb | tee "$root/tmp/install.log"
    check "it says what is wrong" grep -q 'SMTP_PORT = 99999 has to be' "$root/tmp/install.log"
    check "and what goes on" grep -q 'goes on as it is' "$root/tmp/install.log"
    check "systemd is told nothing" same "$(told)" ""
    check "the process that runs goes on" in_root smtpmailer ping --port 3000
    setting SMTP_PORT 1025
}

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Build the image with buildah, which needs no daemon, on a fresh Debian 12 made by debootstrap, and run
# what it says as an engine would with --read-only: its user, its variables, its entry point, a root file
# system that can't be written, its volumes, a secret in a file. Needs root, buildah, debootstrap.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$here/steps.sh"

# --- what is done outside: the image

tool() { buildah --root "$work/storage" --runroot "$work/runroot" --storage-driver vfs "$@"; }

build_image() {
    local base mounts=()
    base=$(tool from scratch)
    tool add --quiet "$base" "$("$here/base.sh")" / >/dev/null
    tool commit --quiet "$base" localhost/fresh-debian >/dev/null
    tool rm "$base" >/dev/null
    # A machine behind a proxy of its own has that proxy's authority among its certificates.
    printf '[global]\ncert = /etc/ssl/certs/machine.crt\n' >"$work/pip.conf"
    mounts+=(--volume /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/machine.crt:ro)
    mounts+=(--volume "$work/pip.conf:/etc/pip.conf:ro")
    "$here/source.sh" "$work/source"
    tool build --quiet --format docker --isolation chroot "${mounts[@]}" \
        --build-arg BASE=localhost/fresh-debian --tag smtpmailer "$work/source" >"$work/build.log" 2>&1 ||
        { tail -n 30 "$work/build.log" >&2; exit 1; }
}

outside() {
    work=$(mktemp -d)
    trap 'tool umount --all >/dev/null 2>&1 || true; tool rm --all >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
    say "build"
    build_image
    local container root
    container=$(tool from localhost/smtpmailer)
    root=$(tool mount "$container")
    config() { tool inspect --type image --format "{{$1}}" localhost/smtpmailer; }
    check "it runs as a user of its own" same "$(config .Docker.Config.User)" 10001:10001
    check "it has a health check" same "$(config .Docker.Config.Healthcheck.Test)" "[CMD healthcheck]"
    check "the volumes lie where the predecessor has them" same \
        "$(config .Docker.Config.Volumes | grep -o '/var/www/smtp-mailer/[A-Za-z]*' | sort | xargs)" \
        "/var/www/smtp-mailer/Attachments /var/www/smtp-mailer/Queue /var/www/smtp-mailer/Template /var/www/smtp-mailer/run"
    check "what only building needs is not in it" test ! -e "$root/opt/smtpmailer/bin/pip" -a ! -e "$root/source"
    config '.Docker.Config.Env' | tr -d '[]' | tr ' ' '\n' >"$work/variables"
    config '.Docker.Config.Entrypoint' | tr -d '[]' >"$work/entrypoint"
    echo >>"$work/entrypoint"
    unshare --mount --net --pid --fork --kill-child "$here/container-test.sh" --inside "$root" "$work"
}

# --- what is done inside

caught() { [ "$(find "$work/trap-mail" -name '*.eml' | wc -l)" = "$1" ]; }

inside() {
    local root=$1 home=/var/www/smtp-mailer volume variables entrypoint service
    work=$2
    log=$work/service.log
    mapfile -t variables <"$work/variables"
    read -ra entrypoint <"$work/entrypoint"
    mount --bind "$root" "$root"
    for volume in Attachments Queue Template run trap-mail; do
        # A new volume begins with what the image has there.
        mkdir "$work/$volume"
        cp -a "$root$home/$volume/." "$work/$volume/"
        chown --reference="$root$home/$volume" "$work/$volume"
        chmod --reference="$root$home/$volume" "$work/$volume"
        mount --bind "$work/$volume" "$root$home/$volume"
    done
    mount -t proc proc "$root/proc"
    mount -t tmpfs tmpfs "$root/run"
    mkdir "$root/run/secrets"
    head -c 16 /dev/urandom | base64 >"$root/run/secrets/key"
    mount -o remount,bind,ro "$root"
    ip link set lo up
    enter=(chroot "$root" setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs --bounding-set=-all
        env -i "${variables[@]}" "--chdir=$home")

    say "run, read-only"
    check "the root file system can't be written" same "$("${enter[@]}" touch /opt/x 2>&1 | grep -o 'Read-only file system')" "Read-only file system"
    check "a container without a service is unhealthy" same "$("${enter[@]}" healthcheck >/dev/null 2>&1 && echo 0 || echo $?)" 1
    "${enter[@]}" smtpmailer trap --dir "$home/trap-mail" --port 1025 >"$work/trap.log" 2>&1 &
    "${enter[@]}" SMTP_HOST=127.0.0.1 SMTP_PORT=1025 SMTP_ENCRYPTION=none MAIL_FROM_ADDR=mailer@example.com \
        QUEUE_SEND_IMMEDIATELY=true \
        SECRET_KEY_FILE=/run/secrets/key "${entrypoint[@]}" >"$log" 2>&1 &
    service=$!
    wait_for "it becomes healthy" "${enter[@]}" healthcheck
    check "it listens beyond the loopback" grep -q 'listening on 0.0.0.0:3000' "$log"
    check "a mail is sent" "${enter[@]}" smtpmailer send --to ada@example.com --subject Now --body Hello
    echo '{"queueMail":{"to":["bob@example.com"],"ccList":[],"bccList":[],"subject":"Queued","body":"Hello"}}' |
        check "another is queued" "${enter[@]}" smtpmailer request
    wait_for "both are in the trap" caught 2
    local status=0
    kill -TERM "$service"
    wait "$service" || status=$?
    check "it ends with status 0" same "$status" 0
    say "all well"
}

if [ "${1:-}" = --inside ]; then inside "$2" "$3"; else outside "$@"; fi

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Install the wheel with the locked environment, and the source distribution as a library user does,
# each into a fresh environment away from the checkout, and send mail with what is installed.
# test-wheel.sh [DIRECTORY of the built files]; without one they are built.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$here/steps.sh"

work=$(mktemp -d)
# shellcheck disable=SC2046 # a list of process ids
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$work"' EXIT
dist=${1:-}
if [ -z "$dist" ]; then
    dist=$work/dist
    "$here/dist.sh" "$dist"
fi
dist=$(cd "$dist" && pwd)
pip_options=(--quiet --disable-pip-version-check)

# in_env ENVIRONMENT COMMAND...: with nothing but that environment in sight, away from the checkout.
in_env() { (become "$@"); }

# The same in the place of this process, so that $! is the program's.
become() {
    local environment=$1
    shift
    cd "$work/empty"
    exec env -i PATH="$environment/bin:/usr/bin:/bin" HOME="$work/empty" "$@"
}

# A port that is free, below those which systems give to anybody who asks for any.
free_port() {
    python3 - <<'PYTHON'
import random, socket

while True:
    port = random.randrange(15000, 30000)
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)):
            print(port)
            break
PYTHON
}

# mails_caught DIRECTORY NUMBER
mails_caught() {
    [ "$(find "$1" -name '*.eml' | wc -l)" = "$2" ]
}

check_installed() {
    local environment=$1 smtp_port port
    log=$environment.log
    say "nothing comes from elsewhere"
    in_env "$environment" python - <<'PYTHON'
import sys
from pathlib import Path

import smtpmailer
from smtpmailer.cli.main import main
from smtpmailer.schemafiles import load_schema
from twisted.plugin import getPlugins
from twisted.application.service import IServiceMaker

names = [plugin.tapname for plugin in getPlugins(IServiceMaker)]
assert names.count("smtpmailer") == 1, names
import smtpmailer.tap
for name in ("sendMail", "updateQueuedMail", "accounts", "keys", "env"):
    load_schema(name)
for name, module in sys.modules.items():
    if name.startswith("smtpmailer"):
        assert Path(module.__file__).is_relative_to(sys.prefix), module.__file__
print(f"smtpmailer {smtpmailer.__version__}, all of it in the environment")
PYTHON
    in_env "$environment" smtpmailer --version
    in_env "$environment" twistd smtpmailer --help | grep -q -- --basepath
    in_env "$environment" python -m smtpmailer --help >/dev/null

    say "it serves"
    smtp_port=$(free_port)
    port=$(free_port)
    mkdir -p "$environment.state"
    cat >"$environment.env" <<ENV
MAILER_PORT = $port
SMTP_HOST = "127.0.0.1"
SMTP_PORT = $smtp_port
SMTP_ENCRYPTION = none
QUEUE_SEND_IMMEDIATELY = true
MAIL_FROM_ADDR = "mailer@example.com"
SECRET_KEY = "$(in_env "$environment" smtpmailer generate-key)"
ENV
    chmod 600 "$environment.env"
    become "$environment" smtpmailer trap --port "$smtp_port" --dir "$environment.mails" >>"$log" 2>&1 &
    local trap=$!
    become "$environment" twistd --nodaemon --pidfile= smtpmailer --env "$environment.env" \
        --basepath "$environment.state" >>"$log" 2>&1 &
    local service=$!
    wait_for "it answers" in_env "$environment" smtpmailer ping --port "$port"
    in_env "$environment" smtpmailer send --port "$port" --to ada@example.com --subject Now --body Hello
    echo '{"queueMail":{"to":["bob@example.com"],"ccList":[],"bccList":[],"subject":"Queued","body":"Hello"}}' |
        in_env "$environment" smtpmailer request --port "$port"
    wait_for "both mails are in the trap" mails_caught "$environment.mails" 2
    kill -TERM "$service" "$trap"
    wait "$service"
    say "sent at once and from the queue, and ended with status 0"
}

mkdir "$work/empty"

say "the wheel, with the locked environment"
python3 -m venv "$work/wheel"
"$work/wheel/bin/pip" install "${pip_options[@]}" --require-hashes --requirement "$here/requirements.lock"
"$work/wheel/bin/pip" install "${pip_options[@]}" --no-deps --no-index "$dist"/*.whl
"$work/wheel/bin/pip" check
check_installed "$work/wheel"

say "the source distribution, with what its ranges give today"
python3 -m venv "$work/sdist"
"$work/sdist/bin/pip" install "${pip_options[@]}" "$dist"/*.tar.gz
"$work/sdist/bin/pip" check
check_installed "$work/sdist"
say "all well"

#!/bin/sh
# SPDX-License-Identifier: MIT
# Make the virtual environment: bootstrap.sh PYTHON DIRECTORY
set -eu

python=$1
venv=$2

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "smtpmailer needs Python 3.11 or newer; '$python' is not. Try: make PYTHON=/path/to/python3.11" >&2
    exit 1
fi

# Debian's python3 comes without venv.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get update -q && apt-get install -q -y --no-install-recommends python3-venv
    else
        echo "The Python modules venv and ensurepip are missing. On Debian: apt install python3-venv" >&2
        exit 1
    fi
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev]'

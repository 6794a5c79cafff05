#!/bin/sh
# SPDX-License-Identifier: MIT
#
# A client of smtpmailer for the shell. It needs awk, timeout and od, nc (OpenBSD's) for plain TCP,
# openssl (3.0 or newer) for TLS.
#
#     echo 'Backup is done.' | smtpmailer.sh -s Backup -t ops@example.com
#     smtpmailer.sh -q -S -C ca.pem -H mail.internal -s Report -t 'Ada Löwe <ada@example.com>' <report.html
#     echo '{"ping":null}' | smtpmailer.sh -j
#
# Standard input is the body, or with -j a whole request. The answer is printed. Exit status:
#   0  done
#   1  the service answered an error
#   2  wrong usage; nothing was sent
#   3  no connection; nothing was sent
#   4  no answer: it may have been carried out. The service does not remember requests, so sending
#      a mail again may make a second one.
set -eu
export LC_ALL=C # bytes pass as they are; what programs print is English

usage() {
    cat >&2 <<'EOF'
Usage: smtpmailer.sh [-H host] [-p port] [-S [-C ca-file] [-N name]] [-A password-file] [-T seconds]
                     [-q] [-F] [-i id] -s subject {-t|-c|-b addr}... [-r addr] [-f addr] [-a file]... <body
       smtpmailer.sh [-H host] ... -j <request

  -H, -p      the service's address and port (127.0.0.1, 3000)
  -S          speak TLS; the certificate is always checked
  -C          PEM file of the authorities to trust instead of the system's
  -N          the name in the certificate, when it is not the host
  -A          file with the service's password on its first line; else SMTPMAILER_PASSWORD
  -T          seconds for a connection and an answer each (330)
  -q          queue the mail instead of sending it now
  -F          don't wait for the answer
  -i          comes back as the answer's id; else a random one is taken
  -s          the subject
  -t, -c, -b  a recipient, of a copy, of a blind copy: an address or 'Name <address>'
  -r, -f      where answers go; the sender
  -a          attach this file, which the service reads: give an absolute path
  -j          standard input is a whole JSON object, the request's name first
EOF
    exit 2
}

fail() { # status, text
    printf 'smtpmailer.sh: %s\n' "$2" >&2
    exit "$1"
}

tab=$(printf '\t')
return=$(printf '\r')

# Standard input as a JSON text, without control characters other than tabs and line ends. Bytes
# beyond ASCII are taken to be UTF-8, and pass.
quote() {
    tr -d '\000-\010\013\014\016-\037' |
        sed 's/\\/\\\\/g; s/"/\\"/g; s/'"$tab"'/\\t/g; s/'"$return"'/\\r/g' |
        awk 'BEGIN { printf "\"" } NR > 1 { printf "\\n" } { printf "%s", $0 } END { printf "\"" }'
}

text() {
    printf '%s' "$1" | quote
}

# 'Name <address>' or an address as an item of the API.
person() {
    case $1 in
    *'<'*'>')
        address=${1##*<}
        name=${1%<*}
        name=${name%"${name##*[! ]}"}
        address=${address%>}
        if [ -n "$name" ]; then
            printf '[%s,%s]' "$(text "$address")" "$(text "$name")"
            return
        fi
        text "$address"
        ;;
    *) text "$1" ;;
    esac
}

append() { # list, item
    printf '%s' "${1:+$1,}$2"
}

host=127.0.0.1 port=3000 tls='' ca='' name='' password=${SMTPMAILER_PASSWORD-} limit=330
request=sendMail forget='' id='' whole='' subject='' to='' cc='' bcc='' reply='' from='' files=''
while getopts H:p:SC:N:A:T:qFi:s:t:c:b:r:f:a:j option; do
    case $option in
    H) host=$OPTARG ;;
    p) port=$OPTARG ;;
    S) tls=yes ;;
    C) ca=$OPTARG ;;
    N) name=$OPTARG ;;
    A) IFS= read -r password <"$OPTARG" || [ -n "$password" ] || fail 2 "$OPTARG holds no password" ;;
    T) limit=$OPTARG ;;
    q) request=queueMail ;;
    F) forget=yes ;;
    i) id=$OPTARG ;;
    s) subject=$OPTARG ;;
    t) to=$(append "$to" "$(person "$OPTARG")") ;;
    c) cc=$(append "$cc" "$(person "$OPTARG")") ;;
    b) bcc=$(append "$bcc" "$(person "$OPTARG")") ;;
    r) reply=$(append "$reply" "$(person "$OPTARG")") ;;
    f) from=$OPTARG ;;
    a) files=$(append "$files" "[$(text "$OPTARG")]") ;;
    j) whole=yes ;;
    *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -eq 0 ] || usage
[ -n "$whole" ] || [ -n "$subject" ] || usage
[ -n "$whole$to$cc$bcc" ] || usage
[ -n "$tls" ] || [ -z "$ca$name" ] || fail 2 '-C and -N go with -S'

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM HUP

# The request, in a file: command lines can be read by everybody, and are limited in length.
[ -n "$id$whole" ] || id=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
number=${id:+\"id\":$(text "$id")}
more=${number:+,$number}${password:+,\"auth\":$(text "$password")}
if [ -n "$whole" ]; then
    # Up to the last brace, behind which the rest belongs.
    awk -v RS='\001' '{ sub(/}[ \t\r\n]*$/, ""); printf "%s", $0 }' >"$folder/request"
else
    {
        printf '{"%s":{"to":[%s],"ccList":[%s],"bccList":[%s]' "$request" "$to" "$cc" "$bcc"
        printf ',"subject":%s,"body":' "$(text "$subject")"
        quote
        printf '%s' "${reply:+,\"replyTo\":[$reply]}${files:+,\"attachments\":[$files]}"
        printf '%s' "${from:+,\"fromEmail\":$(text "$from")}}"
    } >"$folder/request"
fi
printf '%s}\n' "$more" >>"$folder/request"

# Talk. What the program says about the connection tells whether anything was sent.
connected=succeeded
if [ -n "$tls" ]; then
    connected='CONNECTION ESTABLISHED'
    server=${name:-$host}
    case $server in
    *:*) check="-verify_ip $server -noservername" ;;
    *[!0-9.]*) check="-verify_hostname $server -servername $server" ;;
    *) check="-verify_ip $server -noservername" ;;
    esac
    case $host in
    *:*) place="[$host]:$port" ;;
    *) place="$host:$port" ;;
    esac
    mkfifo "$folder/answered"
    # Its standard input stays open until the answer is there: the end of it closes the session.
    # shellcheck disable=SC2086 # words
    {
        cat "$folder/request" || :
        [ -n "$forget" ] || read -r _ <"$folder/answered" || :
    } | timeout "$limit" openssl s_client -connect "$place" -brief -no_ign_eof -nocommands \
        -verify_return_error $check ${ca:+-CAfile "$ca" -no-CApath -no-CAstore} 2>"$folder/log" | {
        IFS= read -r line || :
        printf '%s\n' "$line" >"$folder/answer"
        [ -n "$forget" ] || : >"$folder/answered"
        cat >/dev/null
    }
elif [ -n "$forget" ]; then
    nc -v -w 10 -q 0 "$host" "$port" <"$folder/request" >"$folder/answer" 2>"$folder/log" || :
else
    timeout "$limit" nc -v -N "$host" "$port" <"$folder/request" >"$folder/answer" \
        2>"$folder/log" || :
fi

if ! grep -q "$connected" "$folder/log"; then
    fail 3 "$host:$port: no connection: $(tr '\n' ' ' <"$folder/log")"
fi
[ -z "$forget" ] || exit 0
IFS= read -r answer <"$folder/answer" || :
case $answer in
'{"status":"success"'* | '{"status":"error"'*) ;;
'') fail 4 "$host:$port: no answer; it may have been carried out" ;;
*) fail 4 "$host:$port: no answer of smtpmailer; it may have been carried out" ;;
esac
case $answer in
*'"id":'*)
    case $answer in
    *"$number"*) ;;
    *) fail 4 "$host:$port: another request's answer" ;;
    esac
    ;;
esac
printf '%s\n' "$answer"
case $answer in
'{"status":"success"'*) exit 0 ;;
*) exit 1 ;;
esac

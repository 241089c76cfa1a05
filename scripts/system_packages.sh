#!/bin/sh
# Installs the system packages that some tests talk to, where that needs no password; otherwise says what will be skipped.
set -eu
missing=
command -v rsync >/dev/null 2>&1 || missing="$missing rsync"
{ command -v sshd >/dev/null 2>&1 || [ -x /usr/sbin/sshd ]; } && command -v ssh-keygen >/dev/null 2>&1 || missing="$missing openssh-server openssh-client"
command -v busybox >/dev/null 2>&1 || missing="$missing busybox-static"
# Debian keeps the server's programs where no PATH finds them.
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1 || missing="$missing postgresql"
# An engine of the tests' own needs root, whoever installs it.
if [ "$(id -u)" = 0 ] && ! { [ -x /usr/sbin/dockerd ] || command -v dockerd >/dev/null 2>&1; }; then missing="$missing docker.io iptables"; fi
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ]; then sudo=; elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then sudo="sudo -n"; else
    echo "note: tests that need$missing will be skipped; to run them too: sudo apt install$missing"
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "note: tests that need$missing will be skipped; install them with this system's package manager"
    exit 0
fi
echo "installing$missing ..."
$sudo apt-get update -qq
# shellcheck disable=SC2086
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null

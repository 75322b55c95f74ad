#!/bin/sh
# The fleet's test starts a PostgreSQL of its own. On Debian as root it is installed;
# elsewhere what is there is used, and what is missing is named.
set -eu
if command -v initdb >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null
    exit 0
fi
echo "The fleet's test needs PostgreSQL: install your system's package 'postgresql' and run make test again." >&2
exit 1

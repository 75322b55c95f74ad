#!/bin/sh
# The end-to-end tests drive a real Chromium. On Debian as root it is installed;
# elsewhere what is there is used, and what is missing is named.
set -eu
for browser in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$browser" >/dev/null 2>&1; then
        exit 0
    fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
    exit 0
fi
echo "The end-to-end tests need Chromium: install your system's package 'chromium' and run make test again." >&2
exit 1

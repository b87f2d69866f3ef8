#!/usr/bin/env bash
# Makes sure that a Chromium is there for the browser row: found, or installed where we may, or a message that says how.
set -u
for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then exit 0; fi
done
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo 'installing chromium with apt-get'
  apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null &&
    exit 0
fi
cat >&2 <<'TEXT'
The browser row needs Chromium, and none is on PATH. Get it with
    sudo apt-get install --no-install-recommends chromium fonts-dejavu-core
(or your distribution's package of it), then run `make test` again.
TEXT
exit 1

#!/usr/bin/env bash
# ipyparallel's own tests, with prust's controller in the place of theirs; clients and engines stay their own.
set -u
cd "$(dirname "$0")/../.." || exit 1
root=$PWD
suites=(client lbview asyncresult dependency executor remotefunction label view view_broadcast magics)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
HOME=$folder PYTHONPATH=$root/tests:$root/tests/stock PYTHONWARNINGS=ignore \
  "$root/.venv/bin/python" -m pytest -p prust_controller -p no:cacheprovider -q --disable-warnings \
  --pyargs "${suites[@]/#/ipyparallel.tests.test_}"

#!/usr/bin/env bash
# ipyparallel's own tests, with prust's controller in the place of theirs; clients and engines stay their own. What
# passes is held to expected.txt.
#   run.sh                what has to hold
#   run.sh --record       runs their own controller and writes expected.txt anew: for a new ipyparallel, or new pins
#   run.sh -k NAME ..     anything else goes to pytest
set -u
cd "$(dirname "$0")/../.." || exit 1
root=$PWD
python=${STOCK_PYTHON:-$root/.venv/bin/python}
suites=(client lbview asyncresult dependency executor remotefunction label view view_broadcast magics cluster)
theirs=$("$python" -c 'import os, ipyparallel.tests as theirs; print(os.path.dirname(theirs.__file__))') || exit 1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
files=("${suites[@]/#/$theirs/test_}")
# Many of these tests are coroutines without a marker, which pytest-asyncio takes for tests in this mode alone.
HOME=$folder PYTHONPATH=$root/tests:$root/tests/stock PYTHONWARNINGS=ignore \
  "$python" -m pytest -p prust_controller -p no:cacheprovider -q --disable-warnings --tb=short -o asyncio_mode=auto \
  --rootdir="$theirs" "$@" "${files[@]/%/.py}"

#!/usr/bin/env bash
# Every row of `make test`, in order. A row that fails does not stop the next one; the table at the end says how each
# ended, and the exit status is the worst of them. One cargo profile serves all rows, so the dependencies (libzmq's C++
# above all) are compiled once.
set -u
cd "$(dirname "$0")/.." || exit 1
profile=${PROFILE:-dev}
case $profile in dev) folder=debug ;; *) folder=$profile ;; esac
export PRUST_BIN="$PWD/target/$folder/prust"
table=()
worst=0

row() {
  local name=$1 minutes_max=$2 start=$SECONDS status
  shift 2
  printf '\n== %s\n' "$name"
  timeout --foreground "${minutes_max}m" "$@"
  status=$?
  local word=ok
  [ "$status" -eq 124 ] && word="stopped after $minutes_max min"
  [ "$status" -ne 0 ] && [ "$status" -ne 124 ] && word="FAILED (exit $status)"
  [ "$status" -ne 0 ] && worst=1
  table+=("$(printf '%-44s %5d s  %s' "$name" "$((SECONDS - start))" "$word")")
  return "$status"
}

python() { make --no-print-directory .venv/ready; }
browser() { tests/browser/chromium.sh && .venv/bin/python -m pytest tests/browser; }
export -f python browser

row 'build the tests and the binary' 15 cargo test --workspace --locked --profile "$profile" --no-run
row 'Rust: pure, integration and house rules' 15 cargo test --workspace --locked --profile "$profile"
row 'Python environment' 10 bash -c python
row 'real clients' 25 .venv/bin/python -m pytest tests/clients
row "ipyparallel's own tests on our controller" 18 tests/stock/run.sh
row 'behaviour, as transcripts of notebooks' 12 .venv/bin/python -m pytest tests/behaviour
row 'random sessions, held to a model' 6 .venv/bin/python -m pytest tests/soak
row 'engines that are killed and stand still' 15 .venv/bin/python -m pytest tests/chaos
row 'JupyterLab in Chromium' 12 bash -c browser

printf '\n== what ran (profile %s)\n' "$profile"
printf '%s\n' "${table[@]}"
exit "$worst"

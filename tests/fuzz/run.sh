#!/usr/bin/env bash
# `make fuzz`: arbitrary inputs for FUZZ_SECONDS per target, led by coverage. A stable rustc counts the coverage; libFuzzer is
# compiled from its crate. Prints what was run and covered; an input that crashes or hangs stays in target/fuzz/found,
# with the line that runs it again, and the exit status is 1.
set -u
cd "$(dirname "$0")/../.." || exit 1
seconds=${FUZZ_SECONDS:-600}
targets=${FUZZ_TARGETS:-cell bytes cluster pickle}
host=$(rustc -vV | sed -n 's/^host: //p')
work=$PWD/target/fuzz
flags='--cfg fuzzing -Cpasses=sancov-module'
for pass in level=4 inline-8bit-counters pc-table trace-compares; do
  flags+=" -Cllvm-args=-sanitizer-coverage-$pass"
done
flags+=' -Ccodegen-units=1'
# With --target, build scripts and macros of the compiler are not counted: they have no counters to link.
RUSTFLAGS=$flags cargo build --release --locked --target "$host" --target-dir "$work" \
  --manifest-path tests/fuzz/Cargo.toml || exit 1
"${PYTHON:-python3}" tests/fuzz/seeds.py "$work/seeds" || exit 1
# The kernel reads cells on threads with stacks of this size.
ulimit -s 2048
worst=0
for target in $targets; do
  mkdir -p "$work/corpus/$target" "$work/found"
  log=$work/$target.log
  binary=$work/$host/release/$target
  words=tests/fuzz/rust.dict
  [ -e "tests/fuzz/$target.dict" ] && words=tests/fuzz/$target.dict
  "$binary" "$work/corpus/$target" "$work/seeds/$target" -max_total_time="$seconds" -timeout=10 -max_len=4096 \
    -dict="$words" -artifact_prefix="$work/found/$target-" -print_final_stats=1 >"$log" 2>&1
  status=$?
  count() { sed -n "s/^stat::$1: *//p" "$log" | tail -1; }
  covered=$(grep -o 'cov: [0-9]* ft: [0-9]*' "$log" | tail -1)
  printf 'fuzz %s: %s executions, %s a second, %s\n' "$target" "$(count number_of_executed_units)" \
    "$(count average_exec_per_sec)" "$covered"
  if [ "$status" -ne 0 ]; then
    worst=1
    grep -v '^#' "$log" | tail -40
    sed -n "s|^artifact_prefix.*Test unit written to |replay: (ulimit -s 2048; $binary -timeout=10 |p" "$log" | sed 's/$/)/' | tail -1
  fi
done
exit "$worst"

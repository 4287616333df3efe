#!/usr/bin/env bash
# Fuzzes each target of tests/fuzz for FUZZ_SECONDS (60 unless set), beginning with its committed corpus, with a stable compiler.
# What is new goes below target/, what breaks a claim into tests/fuzz/artifacts. Exit code 1 when something was broken.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-60}
fuzz=tests/fuzz
tools=$PWD/target/tools
version=0.13.2
# Memory errors need `unsafe`, which core forbids: without their sanitizer, no unstable compiler is needed.
options=(--fuzz-dir "$fuzz" --sanitizer none)

if [[ $("$tools/bin/cargo-fuzz" fuzz --version 2>/dev/null) != "cargo-fuzz $version" ]]; then
    echo "installing cargo-fuzz $version into $tools" >&2
    cargo install cargo-fuzz --version "$version" --locked --root "$tools" --target-dir "$tools/build"
fi
cargo_fuzz() {
    "$tools/bin/cargo-fuzz" fuzz "$@"
}

cargo_fuzz build "${options[@]}"
passed=0
failed=0
rows=
for target in $(cargo_fuzz list --fuzz-dir "$fuzz"); do
    found=target/fuzz/$target
    log=target/fuzz/$target.log
    mkdir -p "$found"
    echo "fuzzing $target for $seconds s" >&2
    result=held
    # An input that takes seconds, or a gigabyte of memory, is a finding too.
    cargo_fuzz run "${options[@]}" "$target" "$found" "$fuzz/corpus/$target" -- -dict="$fuzz/words.dict" \
        -max_total_time="$seconds" -max_len=8192 -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 2>"$log" || result=BROKEN
    if [[ $result == held ]]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        tail -n 60 "$log" | cut -c 1-300 >&2
    fi
    stat() {
        sed -n "s/^stat::$1: *//p" "$log"
    }
    features=$(sed -nE 's/.* cov: ([0-9]+) .*/\1/p' "$log" | tail -n 1)
    rows+="$target|$(stat number_of_executed_units)|$(stat average_exec_per_sec)|$features|$result"$'\n'
done
printf '%-10s %12s %10s %8s  %s\n' target inputs 'a second' edges claims
while IFS='|' read -r target inputs rate features result; do
    printf '%-10s %12s %10s %8s  %s\n' "$target" "${inputs:--}" "${rate:--}" "${features:--}" "$result"
done <<<"${rows%$'\n'}"
echo "$passed passed, $failed failed"
[[ $failed -eq 0 ]]

#!/usr/bin/env bash
# Prints the path of the wasmtime program that the API is measured beside, after building it below target/ if it is missing: of the
# version that the host is built on, without what `wasmtime serve` does not need.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/tools
version=$(sed -n '/^name = "wasmtime"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)
if [[ $("$tools/bin/wasmtime" --version 2>/dev/null) != "wasmtime $version"* ]]; then
    echo "building wasmtime $version into $tools, which takes some minutes, once" >&2
    cargo install wasmtime-cli --version "$version" --locked --no-default-features \
        --features serve,run,compile,cranelift,component-model,component-model-async,pooling-allocator,parallel-compilation \
        --root "$tools" --target-dir "$tools/build" >&2
fi
echo "$tools/bin/wasmtime"

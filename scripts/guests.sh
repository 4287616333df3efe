#!/usr/bin/env bash
# Builds the guests' workspace for wasm32-wasip2 with whichever compiler scripts/guest-toolchain.sh chooses.
set -euo pipefail
cd "$(dirname "$0")/.."

rustc=$(scripts/guest-toolchain.sh)
# The host's compiler settings are not the guests'.
unset RUSTFLAGS CARGO_BUILD_TARGET CARGO_ENCODED_RUSTFLAGS
# Panic messages name source files: without the builder's home in them, the same source gives the same component.
export CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$PWD=/bulkhead"
RUSTC=$rustc cargo build --locked --release --target wasm32-wasip2 --manifest-path connectors/Cargo.toml --workspace

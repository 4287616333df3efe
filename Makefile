# Bulkhead. `make help` lists the targets; `make demo` and `make test` do everything on a fresh machine.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test build guests lint fmt check doc hostile peers bench bench-quick soak fuzz fuzz-api clean system

CONNECTORS := --manifest-path connectors/Cargo.toml
FUZZ := --manifest-path tests/fuzz/Cargo.toml
GUESTS := connectors/target/wasm32-wasip2/release

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: build guests ## Run the main job against a small upstream, then a hostile connector, and say how it went
	@target/debug/demo

test: build guests ## Run every test (needs the openssl program; as root on Debian, installs it)
	@scripts/require.sh openssl openssl
	cargo test --workspace
	cargo test $(CONNECTORS) --workspace

build: system ## Build the host and the test programs
	cargo build --workspace

guests: system ## Build every connector and hostile guest for wasm32-wasip2 (as root on Debian, installs its compiler)
	@scripts/guests.sh

check: lint test doc ## Everything that has to hold before a change goes in

lint: fmt-check ## Clippy with warnings denied, and formatting
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy $(CONNECTORS) --workspace --all-targets -- -D warnings
	cargo clippy $(FUZZ) --all-targets -- -D warnings

.PHONY: fmt-check
fmt-check: ## Say whether code is formatted
	cargo fmt --all --check
	cargo fmt $(CONNECTORS) --all --check
	cargo fmt $(FUZZ) --check

fmt: ## Format all code
	cargo fmt --all
	cargo fmt $(CONNECTORS) --all
	cargo fmt $(FUZZ)

doc: ## Build the host's documentation
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

hostile: build guests ## Run every attack on egress, addresses, secrets and resources through every way into a connector (needs openssl too)
	@scripts/require.sh openssl openssl
	@target/debug/hostile

peers: build guests ## Run connectors against other people's emulations of real services (needs Node 20, npm and Python 3.10 with venv)
	@scripts/require.sh node nodejs
	@scripts/require.sh npm npm
	@python3 -c 'import ensurepip' 2>/dev/null || scripts/require.sh ensurepip python3-venv
	@target/debug/peers

bench: guests bench-tools ## Measure what security costs, beside what it is compared with (release build; some minutes)
	cargo build --release --workspace --bin bench --bin bulkhead
	@target/release/bench

bench-quick: guests bench-tools ## The same with fewer rounds
	cargo build --release --workspace --bin bench --bin bulkhead
	@target/release/bench --quick

.PHONY: bench-tools
bench-tools: system ## Make sure that wrk and wasmtime are there, with which the API is measured and compared
	@scripts/require.sh wrk wrk
	@scripts/wasmtime.sh >/dev/null

soak: build guests ## Keep the host under full load for SOAK_SECONDS=600, with upstreams that die, and see whether anything grows
	@target/debug/soak

fuzz: system ## Fuzz what core decides, each target for FUZZ_SECONDS=60 (installs cargo-fuzz below target/, needs C++)
	@scripts/require.sh c++ g++
	@scripts/fuzz.sh

fuzz-api: build ## Ask a served host whatever its description permits, and more (installs schemathesis below target/)
	@scripts/fuzz-api.sh

clean: ## Remove what was built here
	cargo clean
	cargo clean $(CONNECTORS)
	cargo clean $(FUZZ)

system: ## Make sure that a C compiler and cargo are there; as root on Debian, install the compiler
	@scripts/require.sh cc build-essential
	@scripts/require.sh cargo cargo

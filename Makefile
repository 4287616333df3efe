# Bulkhead. `make help` lists the targets; `make demo` and `make test` do everything on a fresh machine.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test build guests lint fmt check doc peers measure clean system tools

CONNECTORS := --manifest-path connectors/Cargo.toml
GUESTS := connectors/target/wasm32-wasip2/release

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: build guests ## Run the main job against a small upstream, then a hostile connector, and say how it went
	@target/debug/demo

test: tools build guests ## Run every test
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

.PHONY: fmt-check
fmt-check: ## Say whether code is formatted
	cargo fmt --all --check
	cargo fmt $(CONNECTORS) --all --check

fmt: ## Format all code
	cargo fmt --all
	cargo fmt $(CONNECTORS) --all

doc: ## Build the host's documentation
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

peers: build guests ## Run connectors against other people's emulations of real services (needs Node 20 and npm)
	@scripts/require.sh node nodejs
	@scripts/require.sh npm npm
	@target/debug/peers

measure: guests ## Measure the smallest connector and one invocation with a fresh instance (release build)
	cargo build --release --workspace
	@target/release/measure

clean: ## Remove what was built here
	cargo clean
	cargo clean $(CONNECTORS)

system: ## Make sure that a C compiler and cargo are there; as root on Debian, install the compiler
	@scripts/require.sh cc build-essential
	@scripts/require.sh cargo cargo

tools: ## Make sure that openssl is there, for tests of TLS; as root on Debian, install it
	@scripts/require.sh openssl openssl

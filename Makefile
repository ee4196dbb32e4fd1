# demo   the main job, end to end; `make demo ONCE=1` ends by itself
# test   every test, with what it needs installed
# check  formatting, lints, licences
# bench  the numbers, as a table and as JSON
# fmt    formats the code

.PHONY: demo test check bench fmt

SHELL := /bin/bash

# Where scripts/setup puts the cargo tools that it builds.
export PATH := $(PATH):$(shell . scripts/lib.sh && tools_dir)/bin

demo:
	@scripts/demo

test:
	@scripts/setup test
	@scripts/engine
	@scripts/test-image
	cargo nextest run --workspace
	cargo test --workspace --doc

check:
	@scripts/setup check
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo deny check licenses bans sources

bench:
	@scripts/setup demo
	@scripts/engine
	@scripts/test-image
	cargo build --release -p weir -p weir-bench
	"$$(. scripts/lib.sh && cargo_target_dir)/release/weir-bench"

fmt:
	cargo fmt --all

# demo   the main job, end to end; `make demo ONCE=1` ends by itself, ACME=pebble and EDGE=1 show more
# test   every test, with what it needs installed
# check  formatting, lints, licences
# bench  the numbers, as tables and as JSON; `make bench ARGS="proxy --runs 3"` some of them
# fmt    formats the code

.PHONY: demo test check bench fmt

SHELL := /bin/bash

# Where scripts/setup puts the tools that no package has, and where Debian puts servers.
export PATH := $(PATH):$(shell . scripts/lib.sh && tools_dir)/bin:/usr/sbin

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
	@scripts/setup bench
	@scripts/engine
	@scripts/test-image
	cargo build --release -p weir -p weir-bench
	ulimit -n "$$(ulimit -Hn)"; "$$(. scripts/lib.sh && cargo_target_dir)/release/weir-bench" $(ARGS)

fmt:
	cargo fmt --all

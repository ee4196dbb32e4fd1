# demo   the main job, end to end; `make demo ONCE=1` ends by itself, ACME=pebble shows more
# test   every test, with what it needs installed
# check  formatting, lints, licences
# bench  the numbers, as tables and as JSON; `make bench ARGS="proxy --runs 3"` some of them
# fmt    formats the code
# agent-aarch64  the agent for a Raspberry Pi and the like, compiled here

.PHONY: demo test check bench fmt agent-aarch64

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
	cargo build --release -p weir-edge-agent --no-default-features
	ulimit -n "$$(ulimit -Hn)"; "$$(. scripts/lib.sh && cargo_target_dir)/release/weir-bench" $(ARGS)

agent-aarch64: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER := aarch64-linux-gnu-gcc
agent-aarch64:
	@scripts/setup agent-aarch64
	cargo build --release --locked -p weir-edge-agent --target aarch64-unknown-linux-gnu

fmt:
	cargo fmt --all

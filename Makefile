# `make help` lists the targets. Everything goes through cargo; scripts/ holds what is longer than a line.

CARGO ?= cargo
TARGET = $(or $(CARGO_TARGET_DIR),target)
ENGINE = $(TARGET)/release/engine

.PHONY: help setup venv build demo test peers bench bench-all soak fmt lint lint-peers doc clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

setup: ## install what building and testing need (Debian, Ubuntu; quick when nothing is missing)
	@scripts/setup.sh

venv: setup
	@scripts/venv.sh

build: setup ## build the engine, optimised: target/release/engine
	$(CARGO) build --release --bin engine

demo: build venv ## transfer over a link in one process, then (root) a file over TAP to another QUIC stack
	$(ENGINE) run --config configs/loopback.yaml --duration 5s
	@scripts/demo-tap.sh $(ENGINE)

# The engine that the system tests start comes from the dev profile: optimised enough
# (Cargo.toml, profile.dev) to move 1 GiB in seconds, with debug assertions and overflow checks on,
# and at no second build. To test another build: make test ENGINE_BIN=target/release/engine
test: venv ## formatting, clippy, docs, then unit, property, integration and peer tests
	@scripts/test.sh

peers: venv ## only the tests of the engine as a process: peers, devices, bad input
	$(CARGO) build --all-features --example http3
	$(CARGO) test --all-features --test system

# The other stacks bring TLS libraries of their own to compile; nothing else in this file builds them.
bench: setup ## the engine beside quinn, quiche and s2n-quic: a table, its report, pictures in docs/benchmarks/ (20 minutes; QUICK=1: 2)
	@scripts/setup-bench.sh
	$(CARGO) build --release -p stoq -p bench -p bench-peers --bin engine --bin scale --bin field --bin peer
ifdef QUICK
	$(TARGET)/release/field --quick
else
	$(TARGET)/release/field --plots docs/benchmarks --page docs/benchmarks.md
endif

bench-all: bench ## the same, then micro-benchmarks, the engine against its ceilings, at scale, and its API (40 minutes more)
	$(CARGO) bench -p bench
	$(CARGO) run --release -p bench --bin compare
	$(CARGO) run --release -p bench --bin scale
	$(CARGO) run --release -p bench --bin api

# SEEDS=n: that many simulated worlds from a random seed on, instead.
soak: setup ## minutes of load, with memory and buffers watched; SEEDS=n: n simulated worlds
ifdef SEEDS
	@scripts/soak.sh --seeds $(SEEDS)
else
	@$(MAKE) --no-print-directory build venv
	@scripts/soak.sh $(ENGINE)
endif

fmt: ## format the sources
	$(CARGO) fmt --all

lint: setup ## clippy, with warnings as errors
	$(CARGO) clippy --workspace --exclude bench-peers --all-targets --all-features -- -D warnings

lint-peers: setup ## clippy and tests of the other stacks' programs, in the profile that `make bench` builds
	@scripts/setup-bench.sh
	$(CARGO) clippy --release -p bench-peers --all-targets -- -D warnings
	$(CARGO) test --release -p bench-peers

doc: setup ## documentation of all crates: target/doc/stoq/index.html
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --exclude bench-peers --all-features --no-deps

clean: ## remove everything built
	$(CARGO) clean

# Every check and every build, by name. CI and the pre-commit hooks call only these targets.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

CACHE ?= $(HOME)/.cache/molotov
# Outside the clone, so that a fresh clone builds warm and the tree stays small.
export CARGO_TARGET_DIR ?= $(CACHE)/target
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

# The interpreter that the extension, the binary and the tests are built for.
PYTHON ?= python3.11 python3
INTERPRETER := $(shell for python in $(PYTHON); do $$python -c 'import sys; print(sys.executable)' 2>/dev/null && break; done)
export PYO3_PYTHON := $(INTERPRETER)
# The stable-ABI wheel is tested on each of these that the machine has.
OTHER_PYTHONS ?= 3.10 3.12 3.13
VENVS := .venv
BIN := $(VENVS)/main/bin
WHEELS := $(CARGO_TARGET_DIR)/wheels
PYTEST_ARGS ?=
# The Python tests wait more than they compute.
SUITES_AT_ONCE ?= 2
# Random inputs per property; the tests take 256.
FUZZ_CASES ?= 100000

# Seeds per simulated service; the tests take 20.
SIZING_SEEDS ?= 200

.PHONY: help system dev fmt lint lint-rust lint-python test test-rust test-python bench fuzz simulations demo wheel clean

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' Makefile | sed -E 's/^([a-z0-9-]+):.*## (.*)/\1\t\2/' | expand -t 14

system:
	@tools/system.sh build-essential python3-dev python3-venv nginx wrk

# One venv per use, filled again only when the list of tools changed.
$(VENVS)/%/.ready: tests/requirements.txt tools/requirements.txt
	@python=$$([ "$*" = main ] && echo $(INTERPRETER) || tools/pythons.sh $*)
	$$python -m venv --clear $(VENVS)/$*
	$(VENVS)/$*/bin/python -m pip install -q --upgrade pip
	$(VENVS)/$*/bin/python -m pip install -q -r tests/requirements.txt $(if $(filter main,$*),-r tools/requirements.txt)
	touch $@

dev: $(VENVS)/main/.ready  ## build the extension into .venv/main, for working on the code
	@VIRTUAL_ENV=$(CURDIR)/$(VENVS)/main $(BIN)/maturin develop --profile dev -q

fmt: $(VENVS)/main/.ready  ## format the Rust and the Python sources
	@cargo fmt
	$(BIN)/ruff check --fix-only -q .
	$(BIN)/ruff format -q .

lint: lint-rust lint-python  ## formatting, clippy, ruff, mypy

lint-rust:
	@cargo fmt --check
	cargo clippy -q --all-targets --no-default-features -- -D warnings
	cargo clippy -q --all-targets -- -D warnings

lint-python: $(VENVS)/main/.ready
	@$(BIN)/ruff check -q .
	$(BIN)/ruff format -q --check .
	$(BIN)/mypy

test: system  ## everything that CI checks
	@echo "== lint"
	$(MAKE) --no-print-directory lint
	echo "== Rust tests"
	$(MAKE) --no-print-directory test-rust
	echo "== Python tests"
	$(MAKE) --no-print-directory test-python

test-rust:
	@cargo test -q --no-default-features
	cargo test -q

# The wheel for one version of Python on that version, the stable-ABI wheel on the others.
test-python: $(VENVS)/main/.ready
	@others="$$(for version in $(OTHER_PYTHONS); do [ -n "$$(tools/pythons.sh $$version)" ] && echo $$version || true; done)"
	rm -rf $(WHEELS)/main $(WHEELS)/abi3
	$(BIN)/maturin build -q --profile ci -i $(INTERPRETER) --out $(WHEELS)/main
	$(BIN)/pip install -q --force-reinstall --no-deps $(WHEELS)/main/*.whl
	$(BIN)/stubtest molotov._core
	if [ -n "$$others" ]; then
	  $(BIN)/maturin build -q --profile ci --features abi3 -i $(INTERPRETER) --out $(WHEELS)/abi3
	  for version in $$others; do
	    $(MAKE) --no-print-directory $(VENVS)/$$version/.ready
	    $(VENVS)/$$version/bin/pip install -q --force-reinstall --no-deps $(WHEELS)/abi3/*.whl
	  done
	fi
	for version in main $$others; do echo $(VENVS)/$$version/bin/python; done |
	  xargs -P $(SUITES_AT_ONCE) -I '{}' tools/suite.sh '{}' $(PYTEST_ARGS)

wheel: $(VENVS)/main/.ready  ## the wheel to give away: optimised, for this interpreter
	@$(BIN)/maturin build --release -i $(INTERPRETER) --out dist

demo: system  ## start a real Kinto and find how many workers it carries
	@$(INTERPRETER) tools/demo.py

bench: system wheel  ## compare with Molotov, aiohttp and wrk against one nginx
	@$(INTERPRETER) tests/bench/run.py

fuzz:  ## throw many more random inputs than the tests do at the parsers, histograms and rules
	@PROPTEST_CASES=$(FUZZ_CASES) cargo test --release --no-default-features --lib

simulations:  ## hold the search for the capacity against simulated services, 200 seeds each, and write the page
	@SIZING_SEEDS=$(SIZING_SEEDS) cargo test --release --no-default-features --test main sizing -- --include-ignored

clean:  ## remove what the targets made in this clone
	@rm -rf $(VENVS) dist .mypy_cache .pytest_cache .ruff_cache
	find python -name '*.so' -delete

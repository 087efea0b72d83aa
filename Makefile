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
OTHERS = $(foreach version,$(OTHER_PYTHONS),$(if $(shell tools/pythons.sh $(version)),$(version)))
VENVS := .venv
NODE := $(CACHE)/node
BIN := $(VENVS)/main/bin
WHEELS := $(CARGO_TARGET_DIR)/wheels
PYTEST_ARGS ?=
# The Python tests wait more than they compute.
SUITES_AT_ONCE ?= 2
# Not beside each other: they look for what is left on the machine, and the ports that Podman publishes change what the
# loopback interface does for everybody.
ALONE := tests/python/test_autosizer.py
WITH_PODMAN := tests/python/test_autosizer_container.py
# What starts whole runs to look at the engine, the results and the reports, which no version of Python changes: tested on
# one interpreter.
ONCE := $(addprefix tests/python/test_, rate.py results.py faults.py run_faults.py sizing_runs.py sizing_search.py \
  demo.py lab.py report_compare.py report_glances.py report_picture.py)
# One set of features for all Rust tests, so that everything is built once.
FEATURES := --features aws
# The extension under test comes without EC2, which has no Python of its own and takes minutes to build.
EXTENSION := --features python
# The binary with everything that is given away, as the tests build it.
BUILD_BINARY = cargo test -q $(FEATURES) --test main --no-run
# The same for measuring with it.
BUILD_OPTIMISED = cargo build -q $(FEATURES)
# Random inputs per property; the tests take 256. Seconds per coverage-guided target, and which of them.
FUZZ_CASES ?= 100000
FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?= response_head body exchange content cookies websocket
# What fuzzing found so far, outside the clone; what is worth keeping is in tests/fuzz/corpus.
FUZZ_CORPUS ?= $(CACHE)/fuzz

# Runs what follows with the test rig's Python and its Podman.
ON_RIG = tests/rig/run.sh $(CURDIR)/$(VENVS)/rig/bin/python

# What `make lab` runs: one kind of server (all without), how often (0: as the page wants it), several at a time.
KIND ?=
RUNS ?= 0
JOBS ?= 5

# Seeds per simulated service; the tests take 20.
SIZING_SEEDS ?= 200

.PHONY: help system dev fmt lint lint-rust lint-python test test-rust test-aws wheels test-python suites test-containers test-report bench lab article agreement kinto fuzz fuzz-properties fuzz-targets simulations demo screenshot wheel clean

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' Makefile | sed -E 's/^([a-z0-9-]+):.*## (.*)/\1\t\2/' | expand -t 14

system:
	@tools/system.sh build-essential python3-dev python3-venv nginx wrk chromium nodejs npm git openssl \
	  podman runc netavark iptables catatonit busybox-static

# What drives the browser, and what audits the page for people who cannot see it; outside the clone.
$(NODE)/.ready: tests/report/package.json
	@mkdir -p $(NODE)
	cp tests/report/package.json $(NODE)
	npm install --prefix $(NODE) --no-audit --no-fund --ignore-scripts --loglevel=error
	touch $@

# One venv per use, filled again only when the list of tools changed.
$(VENVS)/%/.ready: tests/requirements.txt tools/requirements.txt
	@python=$$([ "$*" = main ] && echo $(INTERPRETER) || tools/pythons.sh $*)
	$$python -m venv --clear $(VENVS)/$*
	$(VENVS)/$*/bin/python -m pip install -q --upgrade pip
	$(VENVS)/$*/bin/python -m pip install -q -r tests/requirements.txt $(if $(filter main,$*),-r tools/requirements.txt)
	touch $@

# The test rig's: an Amazon of its own.
$(VENVS)/rig/.ready: tests/rig/requirements.txt
	@$(INTERPRETER) -m venv --clear $(VENVS)/rig
	$(VENVS)/rig/bin/python -m pip install -q -r tests/rig/requirements.txt
	touch $@

dev: $(VENVS)/main/.ready  ## build the extension into .venv/main, for working on the code
	@VIRTUAL_ENV=$(CURDIR)/$(VENVS)/main $(BIN)/maturin develop --profile dev -q $(EXTENSION)

fmt: $(VENVS)/main/.ready  ## format the Rust and the Python sources
	@cargo fmt
	rustfmt --edition 2024 tests/fuzz/targets/*.rs tests/fuzz/checks/lib.rs
	$(BIN)/ruff check --fix-only -q .
	$(BIN)/ruff format -q .

lint: lint-rust lint-python  ## formatting, clippy, ruff, mypy

lint-rust:
	@cargo fmt --check
	rustfmt --check --edition 2024 tests/fuzz/targets/*.rs tests/fuzz/checks/lib.rs
	cargo clippy -q --all-targets --no-default-features -- -D warnings
	cargo clippy -q --all-targets --features aws -- -D warnings

lint-python: $(VENVS)/main/.ready
	@$(BIN)/ruff check -q .
	$(BIN)/ruff format -q --check .
	$(BIN)/mypy

test: system  ## everything that CI checks
	@echo "== lint"
	$(MAKE) --no-print-directory lint
	echo "== Rust tests"
	$(MAKE) --no-print-directory test-rust
	echo "== EC2 target on the test rig, while the wheels are built"
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-aws wheels
	echo "== Python tests"
	$(MAKE) --no-print-directory suites
	echo "== the report's page in a browser"
	$(MAKE) --no-print-directory test-report
	echo "== containers"
	$(MAKE) --no-print-directory test-containers

# What needs the rig is left to test-aws, whose tests mostly wait.
test-rust:
	@cargo test -q $(FEATURES) --lib --bins --test main -- --skip ssm::
	cargo test -q $(FEATURES) --doc

test-aws: $(VENVS)/rig/.ready
	@$(ON_RIG) cargo test -q $(FEATURES) --test main -- --test-threads=8 ssm::
	tools/stale_ports.sh

# The wheel for one version of Python into the environment of that version, the stable-ABI wheel into the others.
wheels: $(VENVS)/main/.ready
	@rm -rf $(WHEELS)/main $(WHEELS)/abi3
	$(BIN)/maturin build -q --profile ci $(EXTENSION) -i $(INTERPRETER) --out $(WHEELS)/main
	$(BIN)/pip install -q --force-reinstall --no-deps $(WHEELS)/main/*.whl
	[ -n "$(OTHERS)" ] || exit 0
	$(BIN)/maturin build -q --profile ci --features abi3 -i $(INTERPRETER) --out $(WHEELS)/abi3
	for version in $(OTHERS); do
	  $(MAKE) --no-print-directory $(VENVS)/$$version/.ready
	  $(VENVS)/$$version/bin/pip install -q --force-reinstall --no-deps $(WHEELS)/abi3/*.whl
	done

test-python: wheels
	@$(MAKE) --no-print-directory suites

suites:
	@tools/stale_ports.sh
	$(BIN)/stubtest molotov._core
	{
	  echo $(BIN)/python
	  for version in $(OTHERS); do echo $(VENVS)/$$version/bin/python $(addprefix --ignore=,$(ONCE)); done
	} | xargs -P $(SUITES_AT_ONCE) -L 1 \
	  bash -c 'tools/suite.sh "$$@" --ignore=$(ALONE) --ignore=$(WITH_PODMAN) $(PYTEST_ARGS)' suite
	tools/suite.sh $(BIN)/python $(ALONE) $(PYTEST_ARGS)

# Last, with the extension that `wheels` installed and the binary that `test-rust` built.
test-containers: $(VENVS)/main/.ready $(VENVS)/rig/.ready
	@$(BUILD_BINARY)
	tools/suite.sh $(BIN)/python $(WITH_PODMAN) $(PYTEST_ARGS)
	$(ON_RIG) $(BIN)/python -m pytest -p no:cacheprovider tests/article --binary $(CARGO_TARGET_DIR)/debug/molotov $(PYTEST_ARGS)
	tools/stale_ports.sh

# With the extension that `wheels` installed.
test-report: $(VENVS)/main/.ready $(NODE)/.ready
	@$(BIN)/python -m pytest -p no:cacheprovider tests/report --node-modules $(NODE) $(PYTEST_ARGS)

# From the results of a real run, so that it is renewed with the page.
screenshot: dev $(NODE)/.ready  ## take the picture of a report that the README shows
	@$(BIN)/molotov-report html tests/report/sizing.json -o $(CARGO_TARGET_DIR)/report.html
	node tests/report/screenshot.mjs $(NODE) "$$(command -v chromium)" $(CARGO_TARGET_DIR)/report.html docs/report.png

wheel: $(VENVS)/main/.ready  ## the wheel to give away: optimised, for this interpreter
	@$(BIN)/maturin build --release -i $(INTERPRETER) --out dist

demo: system  ## start a real Kinto and find how many workers it carries
	@$(INTERPRETER) tools/demo.py

bench: system wheel  ## compare with Molotov, aiohttp and wrk against one nginx
	@$(INTERPRETER) tests/bench/run.py

article: system $(VENVS)/main/.ready $(VENVS)/rig/.ready  ## size a real Kinto on two instances of the test rig, by one command: sizing.html
	@$(BUILD_OPTIMISED)
	$(ON_RIG) $(BIN)/python tests/article/replay.py --binary $(CARGO_TARGET_DIR)/debug/molotov
	tools/stale_ports.sh

agreement: system $(VENVS)/main/.ready $(VENVS)/rig/.ready  ## size the same Kinto as a process, in a container and on the rig, and put the table into docs/autosizer.md
	@$(BUILD_OPTIMISED)
	$(ON_RIG) $(BIN)/python tests/article/agreement.py --binary $(CARGO_TARGET_DIR)/debug/molotov --write
	tools/stale_ports.sh

lab: dev  ## size servers of known capacity (KIND=slots RUNS=10 for one kind), and write what was found into the page
	@$(BIN)/python tests/lab/run.py --runs $(RUNS) --jobs $(JOBS) $(if $(KIND),--kind "$(KIND)")

kinto: system dev  ## size Kinto in memory, on PostgreSQL and behind nginx, and put the table into the README
	@tools/system.sh postgresql
	$(BIN)/python tools/kinto.py --write

fuzz: fuzz-properties fuzz-targets  ## many more random inputs than the tests, then coverage-guided ones, FUZZ_SECONDS a target

fuzz-properties:
	@PROPTEST_CASES=$(FUZZ_CASES) cargo test --release --no-default-features --lib

# cargo-fuzz needs a sanitizer and coverage, which stable Rust has but does not offer by itself.
fuzz-targets: export RUSTC_BOOTSTRAP := 1
fuzz-targets:
	@command -v cargo-fuzz > /dev/null || cargo install -q --locked cargo-fuzz --version 0.13.2
	for target in $(FUZZ_TARGETS); do
	  echo "== $$target"
	  mkdir -p $(FUZZ_CORPUS)/$$target
	  cargo fuzz run --fuzz-dir tests/fuzz $$target $(FUZZ_CORPUS)/$$target tests/fuzz/corpus/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
	    -dict=tests/fuzz/dictionaries/$$target.dict
	done

simulations:  ## hold the search for the capacity against simulated services, 200 seeds each, and write the page
	@SIZING_SEEDS=$(SIZING_SEEDS) cargo test --release --no-default-features --test main sizing -- --include-ignored

clean:  ## remove what the targets made in this clone
	@rm -rf $(VENVS) dist .mypy_cache .pytest_cache .ruff_cache
	find python -name '*.so' -delete

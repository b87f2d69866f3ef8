# The verbs of prust. `make` alone lists them.
SHELL := /bin/bash
VENV := .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PRUST := target/release/prust
# The profile that `make test` builds once and uses for every row: overflow checks and debug assertions stay on.
PROFILE ?= dev
DEMO := .demo
# Random sessions that `make soak` plays; SEED=n plays one again.
SEQUENCES ?= 1000
# Seeds that `make sim` plays, from FIRST on; SEED=n plays one again.
SEEDS ?= 10000
FIRST ?= 0
# How long `make fuzz` feeds each target.
FUZZ_SECONDS ?= 600

# Messages that `make hostile` sends, tasks that `make chaos` runs.
MESSAGES ?= 1000000
TASKS ?= 10000

.PHONY: help demo lab test conformance check soak sim fuzz hostile chaos bench install clean

help:
	@printf '%s\n' \
	  'make demo     build, run notebooks/quickstart.ipynb on four engines, print what it printed and an HTML page' \
	  'make lab      open JupyterLab on the same notebook' \
	  'make test     everything: Rust tests, real clients, JupyterLab in Chromium (PROFILE=release for the release build)' \
	  'make conformance  ipyparallel'"'"'s own tests with our controller in the place of theirs' \
	  'make check    formatting, lints, house rules' \
	  'make soak     1,000 random sessions held to a model (SEQUENCES=n for another number, SEED=n for one again)' \
	  'make sim      the controller among pretend engines that die, hang and answer twice (SEEDS=n, SEED=n for one again)' \
	  'make fuzz     arbitrary cells, bytes, events and pickles, led by coverage, FUZZ_SECONDS=600 for each target' \
	  'make hostile  a million hostile messages to every port of a controller at work (MESSAGES=n)' \
	  'make chaos    tasks on engines that are killed and stand still at random (TASKS=10000, SEED=n)' \
	  'make bench    prust and its peers side by side' \
	  'make install  cargo install, then the kernelspec for this user' \
	  'make clean    remove what the other verbs made'

demo: $(PRUST) $(VENV)/kernel
	@$(VENV)/bin/python tests/demo.py --out $(DEMO) notebooks/quickstart.ipynb

lab: $(PRUST) $(VENV)/kernel
	@mkdir -p $(DEMO)/lab && { [ -e $(DEMO)/lab/quickstart.ipynb ] || cp notebooks/quickstart.ipynb $(DEMO)/lab/; }
	$(VENV)/bin/jupyter lab $(DEMO)/lab/quickstart.ipynb

test:
	@PYTHON=$(PYTHON) PROFILE=$(PROFILE) tests/run.sh

conformance: $(VENV)/ready
	cargo build --locked --bin prust
	@PRUST_BIN=$(abspath target/debug/prust) tests/stock/run.sh

check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --locked --test it tidy
	cargo metadata --locked --quiet --format-version 1 --manifest-path tests/fuzz/Cargo.toml > /dev/null

soak: $(PRUST) $(VENV)/ready
	@PRUST_BIN=$(abspath $(PRUST)) $(VENV)/bin/python tests/soak/run.py --sequences $(SEQUENCES) $(if $(SEED),--seed $(SEED))

sim:
	@SEEDS=$(SEEDS) FIRST=$(FIRST) SEED=$(SEED) cargo test --release --locked --quiet --package prust-cluster sim

fuzz: $(VENV)/ready
	@PYTHON=$(VENV)/bin/python FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run.sh

hostile: $(PRUST) $(VENV)/ready
	@PRUST_BIN=$(abspath $(PRUST)) $(VENV)/bin/python tests/hostile.py --messages $(MESSAGES)

chaos: $(PRUST) $(VENV)/ready
	@PRUST_BIN=$(abspath $(PRUST)) $(VENV)/bin/python tests/chaos/run.py --tasks $(TASKS) $(if $(SEED),--seed $(SEED))

bench: $(PRUST) $(VENV)/ready
	@$(VENV)/bin/python benches/run.py

install:
	cargo install --path . --locked
	prust install --user

clean:
	cargo clean
	rm -rf $(VENV) $(DEMO) tests/browser/shots

# cargo knows best what is stale, so it is always asked.
.PHONY: $(PRUST)
$(PRUST):
	cargo build --release --locked --bin prust

$(VENV)/ready: tests/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	@touch $@

.PHONY: $(VENV)/kernel
$(VENV)/kernel: $(PRUST) $(VENV)/ready
	@VIRTUAL_ENV=$(abspath $(VENV)) PATH="$(abspath $(VENV))/bin:$$PATH" $(PRUST) install --sys-prefix

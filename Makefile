# The verbs of prust. `make` alone lists them.
SHELL := /bin/bash
VENV := .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PRUST := target/release/prust
# The profile that `make test` builds once and uses for every row: overflow checks and debug assertions stay on.
PROFILE ?= dev
DEMO := .demo

.PHONY: help demo lab test check bench install clean

help:
	@printf '%s\n' \
	  'make demo     build, run notebooks/quickstart.ipynb on four engines, print what it printed and an HTML page' \
	  'make lab      open JupyterLab on the same notebook' \
	  'make test     everything: Rust tests, real clients, JupyterLab in Chromium (PROFILE=release for the release build)' \
	  'make check    formatting, lints, house rules' \
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

check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --locked --test it tidy

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

# What `make` does here:
#
#   make setup      the environment alone: .venv/bin/qcompile
#   make demo       compile, simulate and run the digits network; ends with a table
#   make test       lint, types and all tests but the long sweeps
#   make test-full  the long sweeps too
#   make bench      the figures of the README and of docs/
#   make bench-networks   every network beside the project on UP5K, those with figures on xc7 devices
#   make lint       ruff and the two type checkers alone
#   make clean      removes builds, caches and the environment
#
# Each first checks what the machine lacks, then makes the environment .venv from PyPI where it is
# absent or older than pyproject.toml. `make PYTHON3=python3.12 ...` takes another Python.

PYTHON3 := python3
SEED := 0
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
READY_DEV := $(VENV)/ready-dev
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses=8 --dist=loadfile --seed=$(SEED)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help prerequisites setup demo test test-full bench bench-networks lint clean

help:
	@sed -n 's/^#   //p' Makefile

prerequisites:
	@.ci/prerequisites $(PYTHON3)

$(READY): pyproject.toml | prerequisites
	@echo "== environment $(VENV) from PyPI: about 200 MB, a minute or two"
	$(PYTHON3) -m venv $(VENV)
	$(PIP) install --editable .
	@touch $@

$(READY_DEV): $(READY)
	@echo "== test runner, linters and type checkers from PyPI: about 120 MB"
	$(PIP) install --editable ".[dev]"
	@touch $@

setup: $(READY)
	@$(BIN)/python -u -c "from qcompile.compiler.toolchain import warm_tools; warm_tools(print)"

demo: setup
	@$(BIN)/python examples/demo.py

lint: $(READY_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

test: lint setup
	$(PYTEST) -m "not full"

test-full: lint setup
	$(PYTEST)

bench: setup
	@$(BIN)/python examples/bench.py

bench-networks: setup
	@$(BIN)/python -m sim_tests.bench
	@$(BIN)/python -m sim_tests.bench --device xc7a100t --device xc7a35t --device xc7z020 --figures

clean:
	rm -rf $(VENV) build sim_build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

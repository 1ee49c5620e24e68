# `make serve` and `make test` are all that a fresh machine with Python 3.11 and make needs.

PYTHON ?= python3
VENV ?= .venv
CONFIG ?= configs/embedded.yaml
BIN = $(VENV)/bin

export HF_HUB_DISABLE_TELEMETRY = 1
export RAY_USAGE_STATS_ENABLED = 0

.PHONY: help serve models test lint audit clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' $(MAKEFILE_LIST) | awk -F': ' '{printf "make %-8s %s\n", $$1, $$2}'

serve: $(VENV)/.installed ## install what is missing, start the server, say when it is up
	$(BIN)/auricle serve $(CONFIG)

models: $(VENV)/.installed ## bring the embedded models into the user's cache
	$(BIN)/auricle models fetch

test: $(VENV)/.installed-test models ## the whole suite
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

lint: $(VENV)/.installed-dev ## what the pre-commit hooks and CI check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: $(VENV)/.installed-dev ## whether the pinned versions have known vulnerabilities, where the index tells
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --progress-spinner off

clean: ## remove the virtual environment
	rm -rf $(VENV)

$(BIN)/python:
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))" || \
		{ echo "Auricle needs Python 3.11 to 3.13: make PYTHON=python3.12 ..." >&2; exit 1; }
	@# half an environment would be taken for a whole one next time
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing (2 to 5 minutes the first time)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@# librosa's time warping is compiled once: here, and not when the server starts for the first time
	@$(BIN)/python -c "import numpy, librosa.sequence; librosa.sequence.dtw(C=numpy.zeros((1, 1)))"
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

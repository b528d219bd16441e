# Two commands matter: `make demo` and `make test`. Both set everything up from nothing.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
LOW := .venv-lowest
UV := $(shell command -v uv)
# One thread a process: two busy processes on two cores are slowed down several times by spinning threads.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
PYTEST_ARGS ?= -n 2

.PHONY: setup demo test test-all test-gpu test-lowest check docs fix bench mutate clean

setup: .venv/.done  ## the environment in .venv, with everything the tests need

.venv/.done: pyproject.toml constraints.txt Makefile
ifneq ($(UV),)
	test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) .venv
	$(UV) pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
else
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
endif
	touch $@

demo: setup  ## draw a dozen prompts, guard them, write demo-out/sheet.png and sheet.html
	$(BIN)/nsfw-guard demo

test: setup  ## the suite, with a share of each long matrix
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-all: setup  ## the whole of the long matrices too, and coverage, which doubles the time
	$(BIN)/python -m pytest -m 'not gpu' --cov --cov-report=term $(PYTEST_ARGS)

test-gpu: setup  ## what needs a CUDA device
	$(BIN)/python -m pytest -m gpu

$(LOW)/.done: pyproject.toml constraints-lowest.txt Makefile
ifneq ($(UV),)
	test -x $(LOW)/bin/python || $(UV) venv --quiet --python $(PYTHON) $(LOW)
	$(UV) pip install --quiet --python $(LOW)/bin/python --constraint constraints-lowest.txt --editable '.[test]'
else
	$(LOW)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(LOW)
	$(LOW)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-lowest.txt --editable '.[test]'
endif
	touch $@

test-lowest: $(LOW)/.done  ## the suite with the oldest versions that pyproject.toml allows
	$(LOW)/bin/python -m pytest -n 2

check: setup  ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd benchmarks && ../$(BIN)/mypy --config-file= --check-untyped-defs --ignore-missing-imports --follow-imports=silent *.py
	$(BIN)/mypy --config-file= --check-untyped-defs --ignore-missing-imports --follow-imports=silent -p benchmarks.corpus
	$(BIN)/python -m pytest tests/test_layers.py

docs: setup  ## the site, in site/: no broken link, every public name
	$(BIN)/python -m pip --version >/dev/null 2>&1 && $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]' \
		|| $(UV) pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python docs/site.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup  ## the tables that the docs quote; nothing else should run meanwhile
	$(BIN)/python benchmarks/parity.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/pipelines.py
	$(BIN)/python benchmarks/early_stop.py
	$(BIN)/python benchmarks/catalogue.py
	$(BIN)/python benchmarks/hosts.py
	$(BIN)/python benchmarks/views.py
	$(BIN)/python benchmarks/content_views.py
	$(BIN)/python benchmarks/clips.py
	$(BIN)/python benchmarks/files.py --mutants 60000
	$(BIN)/python benchmarks/canary.py

mutate: setup  ## small faults put into the modules that decide: which do the tests notice? Half an hour
	$(BIN)/python benchmarks/mutate.py $(MODULES)

clean:
	rm -rf .venv $(LOW) demo-out site site-pages .coverage .mypy_cache .ruff_cache .hypothesis

# Every task of the project, one word each. `make help` lists them.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2

PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
TORCH := $(shell grep '^torch==' constraints.txt)
FLOORS := $(patsubst %/__init__.py,%,coinfer_gym/__init__.py baselines/__init__.py agents/__init__.py studies/__init__.py)

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help install lint format test test-thorough test-interpreted bench figures benchmarks extras site clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile

install: $(STAMP)  ## make the virtual environment, with every extra at its pinned version

# torch comes first and pinned: asked for by a bare name it may bring gigabytes of CUDA along.
$(STAMP): pyproject.toml constraints.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet $(TORCH)
	$(PY) -m pip install --quiet -c constraints.txt -e '.[dev]' --config-settings editable_mode=compat
	touch $@

lint: $(STAMP)  ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy $(FLOORS)

format: $(STAMP)  ## rewrite the files in the house style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

test: lint  ## lint, types and all tests, on JOBS processes
	$(PY) -m pytest -n $(JOBS) --dist loadfile

test-thorough: $(STAMP)  ## the proofs by random draws with thousands of worlds (ten minutes on two cores)
	$(PY) -m pytest -n $(JOBS) -m thorough

test-interpreted: $(STAMP)  ## the tests of physics, step and optimum without compilation, as a debugger runs them
	NUMBA_DISABLE_JIT=1 $(PY) -m pytest -n $(JOBS) --dist loadfile tests/coinfer_gym/test_physics.py \
	    $(addprefix tests/coinfer_gym/laim/test_,distortion.py dynamics.py optimum.py predictor.py problem.py) \
	    $(addprefix tests/coinfer_gym/layerwise/test_,network.py predictor.py problem.py)

bench: $(STAMP)  ## train an agent and compare it with every baseline (four minutes on two cores)
	$(PY) -m agents.train --config configs/agents/bench.yml --overwrite
	$(PY) -m baselines.compare configs/compare/quick.yaml

figures: $(STAMP)  ## every figure with its verdict, into runs/figures (the list: python -m studies --list)
	$(PY) -m studies

benchmarks: $(STAMP)  ## speed of the environments and the optimizers (store it: python -m benchmarks --publish)
	$(PY) -m benchmarks

extras: $(STAMP)  ## install each extra into an environment of its own and run it (from the package index)
	COINFER_EXTRAS=1 $(PY) -m pytest tests/test_extras.py

site: $(STAMP)  ## the documentation, in build/site
	$(PY) -m mkdocs build --strict

clean:  ## remove caches and build output, and keep the virtual environment and runs
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks build dist *.egg-info
	find . -path './$(VENV)' -prune -o -type d -name __pycache__ -exec rm -rf {} +

# Needs python3 (3.11 or newer) with venv; everything else is installed into .venv from the lock, by plain pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup run cluster check format test soak bench lock clean

help: ## say what there is to make
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name what; do printf '%-8s %s\n' "$$name" "$$what"; done

setup: $(VENV)/ready ## make .venv and install everything in it

# The stamp is as new as the last installation: it is repeated only when the lock or the project's own metadata changed.
$(VENV)/ready: requirements-dev.lock pyproject.toml clients/python/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is $$($(PYTHON) --version 2>&1): Python 3.11 or newer is needed. Try: make PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
		|| { echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . --editable clients/python
	@touch $@

run: setup ## serve on http://127.0.0.1:8000, data in ./data
	@exec $(BIN)/gateway serve

cluster: setup ## Postgres, Redis, three nodes and a balancer on http://127.0.0.1:8000, data in ./data/cluster
	@exec $(BIN)/python -m loadtest.cluster $(OPTIONS)

check: setup ## lint, formatting, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: setup ## rewrite the Python files as `make check` wants them
	$(BIN)/ruff check --fix-only --exit-zero .
	$(BIN)/ruff format .

test: check ## everything that must hold before a change goes in
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=line test-stores test-rest

# Two halves side by side: much of a test is waiting for servers and browsers.
STORES := tests/store tests/servers tests/page tests/runtime

.PHONY : test-stores test-rest
test-stores:
	$(BIN)/pytest --quiet $(STORES)

test-rest:
	$(BIN)/pytest --quiet $(STORES:%=--ignore=%) tests

soak: setup ## the long forms of the tests
	$(BIN)/pytest -m slow --timeout=0

bench: setup ## the load scenarios, with their ratios to the floor
	$(BIN)/python -m loadtest

# Pins that still satisfy pyproject.toml stay; UPGRADE=--upgrade takes the newest. Run it on Python 3.11, the oldest one served:
# what only an older Python needs would be missing from a lock made on a newer one.
COMPILE = $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-annotate --no-header \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options $(UPGRADE)
PROJECT = $(BIN)/python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb")); print(*$(1), sep="\n")'

lock: setup ## write the three requirements*.lock anew
	$(call PROJECT,p["project"]["dependencies"]) | $(COMPILE) --output-file requirements.lock -
	$(call PROJECT,p["project"]["dependencies"] + p["dependency-groups"]["dev"]) | $(COMPILE) --constraint requirements.lock --output-file requirements-dev.lock -
	$(call PROJECT,p["build-system"]["requires"]) | $(COMPILE) --constraint requirements-dev.lock --output-file requirements-build.lock -
	@touch $(VENV)/ready

clean: ## remove what was made, but not ./data
	rm -rf $(VENV) build dist loadtest/build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Longtail. `make` lists the targets; each prepares what it needs, on a fresh clone too.

VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.longtail-complete
# A file's tests share what they prepare, so a file stays with one of the processes. Files are taken in
# the order of tests/conftest.py, the slow ones first, and not by their number of tests.
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help venv wanted demo test test-fast test-second check format docs lock clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

# An environment that is there keeps its Python: `wanted` refuses to go on with another than was asked for.
$(READY): requirements-full.lock requirements-current.lock setup.py | wanted
	@bash scripts/make_venv.sh $(VENV)

wanted:
	@$(if $(PYTHON)$(STACK),bash scripts/same_python.sh $(VENV),:)

venv: $(READY) ## the environment in .venv (PYTHON=... names the interpreter, STACK=current or full the stack)

demo: $(READY) ## Complete Journey, from the log to recommendations (QUICK=1: a sample, in minutes)
	$(BIN)/longtail demo $(if $(filter-out 0,$(QUICK)),--quick)

test: $(READY) ## all tests (JOBS=2: processes)
	$(PYTEST) $(ARGS)

test-fast: $(READY) ## the tests that take seconds
	$(PYTEST) -m "not slow" $(ARGS)

test-second: $(READY) ## what CI runs on the second stack (STACK=current VENV=.venv-current FIRST=.venv: the other environment)
	LONGTAIL_OTHER_PYTHON=$(if $(FIRST),$(abspath $(FIRST))/bin/python) $(PYTEST) -m "not slow or both_stacks" $(ARGS)

check: $(READY) ## lint, format and types, as CI does
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## repair what `make check` finds, where a tool can
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

docs: $(READY) ## write the tables of the docs that the code knows: registries, and every option
	$(BIN)/python scripts/doc_tables.py

lock: $(READY) ## resolve the lock files anew from setup.py (UPGRADE=1: to the newest versions)
	$(BIN)/python scripts/lock.py $(if $(filter-out 0,$(UPGRADE)),--upgrade)

clean: ## remove caches and build output
	rm -rf build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## also the environment
	@test ! -e $(VENV) || test -e $(VENV)/.longtail-begun || { echo "error: $(VENV) was not made by make"; exit 2; }
	rm -rf $(VENV)

# Everything needs only make and Python 3.11 or later: `make setup`, which the others call, installs the rest in .venv.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name) 2>/dev/null)))
JOBS ?= 2
BIN := .venv/bin
CODE := $(wildcard src tests benchmarks examples tools)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup check format generate test demo bench lock types clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.stamp ## make .venv with everything in it

.venv/.stamp: requirements/dev.txt pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Kagzi needs Python 3.11 or later; name one: make PYTHON=..."; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

check: setup ## look for faults without running: format, lint, types, layers
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports
	$(BIN)/python -m tools.generate_blocking --check

format: setup ## put the code in order
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

generate: setup ## write kagzi.blocking from the async classes, as they are now
	$(BIN)/python -m tools.generate_blocking

test: setup ## run the tests (TESTS="..." for some of them, JOBS=n for n processes)
	$(BIN)/python -m pytest --numprocesses $(JOBS) $(TESTS)

demo: setup ## watch workflows survive a crash
	$(BIN)/python -m kagzi.cli.main demo

bench: setup ## measure, beside the limits of this machine
	$(BIN)/python -m benchmarks

lock: setup ## choose versions anew: requirements/*.txt from requirements/*.in and pyproject.toml
	$(BIN)/python -m pip install --quiet --target build/lock --upgrade uv
	build/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --extra postgres --extra pydantic --custom-compile-command "make lock" \
		--output-file requirements/dev.txt pyproject.toml requirements/dev.in
	build/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock" \
		--output-file requirements/types.txt requirements/types.in

types: setup ## see whether what users import is typed completely (installs basedpyright, which is large)
	$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements/types.txt
	$(BIN)/basedpyright --verifytypes kagzi --ignoreexternal

clean: ## remove what tools have left, but not .venv
	rm -rf build dist .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

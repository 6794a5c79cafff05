# SPDX-License-Identifier: MIT
# `make demo` and `make test` need nothing but Python >= 3.11: they do their own set-up.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test lint format run venv test-tools coverage generate bench clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): setup.py pyproject.toml scripts/bootstrap.sh
	sh scripts/bootstrap.sh $(PYTHON) $(VENV)
	@touch $@

venv: $(STAMP) ## the virtual environment with everything in it

demo: $(STAMP) ## send a mail through a service and a mail trap of its own
	$(BIN)/python scripts/demo.py

test-tools: ## the servers that tests talk to (redis-server, Postfix), through apt when missing
	sh scripts/test-tools.sh

test: $(STAMP) test-tools ## all tests
	$(BIN)/python -m twisted.trial tests

lint: $(STAMP) ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## put the code into the house's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(STAMP) test-tools ## tests with branch coverage
	$(BIN)/coverage run -m twisted.trial tests
	$(BIN)/coverage report

run: $(STAMP) ## the service in the foreground, with .env (made from the example when missing)
	$(BIN)/python scripts/make_env.py .env
	$(BIN)/twistd --nodaemon --pidfile= smtpmailer --env .env

generate: $(STAMP) ## what is made from the table of settings: schema, example, reference
	$(BIN)/python scripts/make_env_schema.py

bench: $(STAMP) ## every benchmark, with the peers that are installed
	@for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean: ## away with all that was made
	rm -rf $(VENV) .demo build dist *.egg-info _trial_temp* .coverage .mypy_cache .ruff_cache .hypothesis

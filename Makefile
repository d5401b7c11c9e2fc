# Everything that people and CI run. `make up` needs nothing but Python 3.11 or 3.12 on a fresh machine.
SHELL := /bin/bash
PYTHON := .venv/bin/python
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help up down status test check format lock bench env env-dev

help:          ## show this list
	@grep -hE '^[a-z-]+: .*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 12

up: env        ## start the whole product on this machine; Ctrl-C ends it
	@exec $(PYTHON) -m deploy.local up

down:          ## end it from another terminal, and whatever a killed run has left
	@test ! -x $(PYTHON) || exec $(PYTHON) -m deploy.local down

status:        ## each part with its state, pid and memory
	@test -x $(PYTHON) && exec $(PYTHON) -m deploy.local status

test: env-dev check  ## format, lint, types, then every test
	$(PYTHON) -m pytest

check: env-dev  ## format, lint and types only
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy

format: env-dev  ## format and mend what can be mended
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

bench: env     ## time and memory: of two starts, and of the engine beside plain polars and XGBoost
	$(PYTHON) -m bench

lock: env      ## pin every dependency again, with hashes
	.venv/bin/uv pip compile pyproject.toml --all-extras --python-version 3.11 --universal --no-header --no-annotate \
	  --no-emit-index-url --generate-hashes -o requirements.lock

env:
	@deploy/bootstrap.sh

env-dev:
	@deploy/bootstrap.sh --dev

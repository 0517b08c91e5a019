# Everything that is run, by a person and by CI alike. `make help` lists it.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
SEEDS ?= 10000

.PHONY: help up demo test simulate check bench servers lock clean

help:  ## list the tasks
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

up: $(READY)  ## start a cluster on this host; Ctrl-C ends it
	@exec $(BIN)/atria up $(ARGS)

demo: $(READY)  ## send real images, kill a worker, lose two sites, get everything back
	@exec $(BIN)/atria demo $(ARGS)

test: servers  ## run all tests
	@$(BIN)/python -m tests.tools
	$(BIN)/pytest -n 2 -m "not hosts" $(ARGS)
	@# Whole clusters have both cores to themselves; without such a test among those asked for, all is well.
	$(BIN)/pytest -m hosts $(ARGS) || [ $$? = 5 ]

simulate: $(READY)  ## play SEEDS histories of a cluster with failures; prints the seed of each that went wrong
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) $(ARGS)

check: $(READY)  ## lint, types, and which package may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: servers  ## compare with raw baselines and peers; prints a table of ratios
	@$(BIN)/python -m tests.tools --bench
	$(BIN)/python -m tests.bench $(ARGS)

servers: $(READY)  ## build the real servers that tests and bench run against, once (4 minutes)
	@$(BIN)/python -m tests.servers

lock: $(READY)  ## resolve the dependencies anew
	$(BIN)/pip-compile -q --upgrade --strip-extras --generate-hashes --allow-unsafe --no-header \
		--no-emit-index-url --no-emit-find-links --extra development -o requirements.lock pyproject.toml

$(READY): requirements.lock pyproject.toml
	@echo "setting up .venv (once, about a minute)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11: name a newer one, make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

clean:  ## remove what was set up here; data folders are never touched
	rm -rf .venv .cache build *.egg-info

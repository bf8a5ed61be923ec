# Everything a developer does here. `make` alone explains.
# ARGS goes to the command: make run ARGS="--port 9000", make test ARGS="-k stream -x".

.DEFAULT_GOAL := help
.PHONY: help env run test check compile fix lock bench fuzz audit clean
ARGS ?=
BIN := .venv/bin

help:  ## says this
	@echo 'Tailrace: an async reverse proxy in front of LLM APIs. Needs python3 (3.11 or newer), make and git.'
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '%-13s %s\n' "$$name" "$$text"; done
	@echo
	@echo 'Start with `make run`. The story of a request is proxy/exchange.py; how to change it: CONTRIBUTING.md.'

env:  ## builds .venv with everything that run, test and bench need, from the locks in requirements/
	@tools/env.sh dev

run:  ## serves on http://127.0.0.1:8080: ./tailrace.yaml if it is there, else a demo that needs no key
	@tools/env.sh run $(ARGS)
	@exec $(BIN)/python -m proxy serve $(ARGS)

test: env  ## runs the tests
	@$(BIN)/pytest $(ARGS)

compile: env  ## builds the hot path as machine code, if that is not up to date: less than half the CPU per request
	@$(BIN)/python tools/compile.py

# Tests of time-outs and the like may be late once on a busy machine: what failed runs again, and a mistake fails twice.
AGAIN = || { echo 'Once more, what failed:'; $(BIN)/pytest --last-failed --last-failed-no-failures none $(ARGS); }
check: env  ## what CI runs: linter, formatter, types, import directions, the tests; those of the compiled code again
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python tools/compile.py
	@$(BIN)/pytest $(ARGS) $(AGAIN)
	@[ -e .venv/native/manifest.json ] || { echo 'LEFT OUT: the tests of the compiled hot path, there is no C compiler here'; exit; }; \
		export TAILRACE_NATIVE=1; $(BIN)/pytest tests/policies tests/proxy $(ARGS) $(AGAIN)

fix: env  ## formats the code and mends what the linter can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# Without --upgrade the versions in the present locks stay where they still fit.
COMPILE := $(BIN)/uv --quiet pip compile --universal --generate-hashes --no-emit-index-url --no-annotate \
	--python-version 3.11 --custom-compile-command 'make lock' $(ARGS)
lock: env  ## writes requirements/*.lock after a change of pyproject.toml (newer versions: ARGS=--upgrade)
	@$(COMPILE) pyproject.toml -o requirements/run.lock
	@$(COMPILE) pyproject.toml --group dev -c requirements/run.lock -o requirements/dev.lock
	@$(COMPILE) --group client -c requirements/dev.lock -o requirements/client.lock
	@$(COMPILE) --group compile -c requirements/dev.lock -o requirements/compile.lock
	@$(COMPILE) --no-deps --group demo -o requirements/demo.lock
	@$(COMPILE) --group fuzz -c requirements/run.lock -o requirements/fuzz.lock
	@$(COMPILE) --group audit -o requirements/audit.lock
	@git --no-pager diff --stat -- requirements

BENCHMARKS ?= $(filter-out __%,$(basename $(notdir $(wildcard benchmarks/*.py))))
bench: compile  ## measures: every script in benchmarks/, or those that BENCHMARKS="..." names
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py $(ARGS); done

fuzz: env  ## looks for texts that break the readers of streams, JSON, schemas and configurations, or the API (SECONDS_EACH=60)
	@tools/fuzz.sh

audit: env  ## looks for known mistakes in the code and, by the network, for known holes in the locked packages
	@tools/audit.sh

clean:  ## removes what make has built (.venv and caches); your configuration and ledger stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

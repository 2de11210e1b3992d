# bakeoff: make demo, make test.  Everything is installed into .venv; a stamp there says what for.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test fix docs bench

demo: .venv/.core  ## a whole study on built-in handwritten digits; ends with the path of its report
	$(BIN)/bakeoff demo

test: .venv/.test  ## style, types, tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2

fix: .venv/.test  ## repair what ruff can repair
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: .venv/.docs  ## the command reference (fails when it was stale), the pictures of the notes, and the site of all documentation
	@cp docs/commands.md .venv/commands.md 2>/dev/null || : > .venv/commands.md
	TERM=dumb COLUMNS=100 $(BIN)/typer bakeoff.cli utils docs --name bakeoff --title "The command line" --output docs/commands.md
	@cmp -s docs/commands.md .venv/commands.md || { echo "docs/commands.md was stale and is now rewritten: commit it"; exit 1; }
	$(BIN)/python scripts/notes.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo site/index.html

bench: .venv/.test  ## the measurements that the documentation quotes
	@set -e; for script in benchmarks/*.py; do echo "$$script"; $(BIN)/python "$$script"; done

.venv/.core: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "bakeoff needs Python 3.11 or newer and found: $$($(PYTHON) --version 2>&1); say make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	@echo "installing bakeoff and torch (about 6 GB with the GPU libraries) into .venv"
	$(PIP) --editable .
	@touch $@

.venv/.test: .venv/.core
	$(PIP) --editable '.[test]'
	@touch $@

.venv/.docs: .venv/.core
	$(PIP) --editable '.[docs]'
	@touch $@

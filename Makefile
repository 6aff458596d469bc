# Every target sets up what it needs: a machine with Python 3.11 to 3.13 and make is enough.

# Each candidate is run before it is taken: pyenv puts names on the PATH that cannot run, Debian may lack ensurepip.
SUITABLE := import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
ifndef PYTHON
PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c '$(SUITABLE)' >/dev/null 2>&1 && echo $$p && break; done)
endif

BIN := .venv/bin
INSTALLED := .venv/.installed
SOURCES := src strategies tests examples benchmarks
# A file stays with one worker, for what its tests share; tests/conftest.py says which files begin.
IN_PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test scripts soak check format docs venv clean
.DEFAULT_GOAL := test

demo: $(INSTALLED)
	$(BIN)/python -c "import runpy, nanfix.model.quiet; nanfix.model.quiet.load_tensorflow(); runpy.run_path('examples/demo.py', run_name='__main__')"

test: check
	$(BIN)/python -m pytest $(IN_PARALLEL)

# Every script of tests/user_scripts and every notebook of tests/user_notebooks repaired, patched and run without nanfix; `make test`
# takes one of each.
scripts: $(INSTALLED)
	NANFIX_ALL_SCRIPTS=1 $(BIN)/python -m pytest tests/test_scripts.py tests/test_notebooks.py

# The whole suite, and what `make test` has no time for: strategies against experts, every legal training of tests/legal with all
# strategies, repaired twice and loaded in a fresh process, 1,000 composed ones (40 in `make test`), and every form of data repaired.
soak: $(INSTALLED)
	NANFIX_SOAK=1 $(BIN)/python -m pytest $(IN_PARALLEL)

check: $(INSTALLED)
	$(BIN)/ruff check $(wildcard $(SOURCES))
	$(BIN)/ruff format --check $(wildcard $(SOURCES))
	$(BIN)/pyright

format: $(INSTALLED)
	$(BIN)/ruff check --fix $(wildcard $(SOURCES))
	$(BIN)/ruff format $(wildcard $(SOURCES))

# The pages that are made from the code: docs/strategies.md and docs/fix.schema.json.
docs: $(INSTALLED)
	$(BIN)/python docs/generate.py

venv: $(INSTALLED)

$(INSTALLED): pyproject.toml requirements.lock
	@'$(PYTHON)' -c '$(SUITABLE)' >/dev/null 2>&1 || { \
		echo "nanfix needs Python 3.11, 3.12 or 3.13 with venv, and none was found. Install one or say which: make PYTHON=/path/to/python3.11" >&2; \
		exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info src/*.egg-info .pytest_cache .ruff_cache .hypothesis
	find $(wildcard $(SOURCES)) -name __pycache__ -type d -prune -exec rm -rf {} +

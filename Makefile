# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test slow lint claims docs setup clean

demo: setup  ## all studies at their quick size; leaves out/demo/report.html
	$(BIN)/trainability validate --size quick --out out/demo --workers 2

test: setup  ## the default tests, with coverage
	$(BIN)/python -m pytest -n 2 -m "not slow" --cov --cov-report=term --cov-fail-under=90

slow: setup  ## the long tests
	$(BIN)/python -m pytest -n 2 -m slow

claims: demo  ## the table of claims in the documentation, docs/claims.md
	cp out/demo/claims.md docs/claims.md

docs: setup  ## the site, its notebooks and theory pages executed; leaves out/docs/index.html
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,docs]'
	$(BIN)/sphinx-build -W --keep-going -c docs -b html . out/docs

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) out .pytest_cache .mypy_cache .ruff_cache .coverage

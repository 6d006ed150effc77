# Every target sets up its own .venv when needed; `make` alone lists them.
PROFILE ?= quick
PYTHON  ?= python3
BIN     := .venv/bin
READY   := .venv/.ready

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'
	@echo "  PROFILE  one of: $(notdir $(wildcard parameters/*)) (default: quick)"

report: $(READY) ## run a profile's notebooks and write reports/PROFILE/index.html
	$(BIN)/python -m dsdlib.report "$(PROFILE)"

test: $(READY) ## check the style and run the tests
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/python -m pytest

lab: $(READY) ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab notebooks

clean: ## remove .venv (results and reports stay)
	rm -rf .venv

# Installed anew whenever the list of dependencies changes; a set-up that fails half way is not taken for ready.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

.PHONY: help report test lab clean

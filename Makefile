# Every target sets up its own .venv when needed; `make` alone lists them.
PROFILE ?= quick
PYTHON  ?= python3
MINUTES ?= 9
BIN     := .venv/bin
READY   := .venv/.ready

ifdef EXECUTOR
export DSDLIB_EXECUTOR := $(EXECUTOR)
endif

# An environment that was moved or copied along with its clone points at the old place: it is made anew.
ifneq ($(shell cat $(READY) 2>/dev/null),$(CURDIR))
$(shell rm -f $(READY))
endif

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'
	@echo "  PROFILE  one of: $(notdir $(wildcard parameters/*)) (default: quick)"
	@echo "  EXECUTOR where stacks are trained: local, dask:tcp://HOST:PORT, slurm:workers=N,... (default: local)"

report: $(READY) ## run the notebooks of one or several profiles and write reports/index.html
	$(BIN)/python -m dsdlib.report $(PROFILE)

test: $(READY) ## check the style and run the tests
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/python -m pytest

bench: $(READY) ## time training on this machine, into reports/PROFILE/90_performance.html
	$(BIN)/python -m dsdlib.report "$(PROFILE)" --only 90_performance

paper: $(READY) ## for a GPU: checks, then the papers' most telling runs, looked at for MINUTES (9); again goes on
	$(BIN)/python -m dsdlib.study.paper --minutes $(MINUTES)

lab: $(READY) ## open JupyterLab on the notebooks
	$(BIN)/python -m jupyterlab notebooks

clean: ## remove .venv (results and reports stay)
	rm -rf .venv

# Installed anew whenever the list of dependencies changes; a set-up that fails half way is not taken for ready.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=python3.12 ...")'
	@echo "Setting up .venv: a Python environment, and in it the packages that pyproject.toml lists"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --disable-pip-version-check -e '.[test]'
	@echo '$(CURDIR)' > $@
	@echo "Set up."

.PHONY: help report test bench paper lab clean

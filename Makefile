# Two commands do everything: `make sweep` and `make test`. Each makes .venv and installs what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Where it is set, every process compiles torch and diffusers anew: 12 s each on one core.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help sweep example test check lock clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

sweep: $(VENV)/.installed  ## sweep samplers x steps x guidance and write the report: make sweep ARGS='grid=quick'
	$(BIN)/python eval/sweep.py $(ARGS)

example: $(VENV)/.installed  ## sweep with the defaults, where that is not done yet, and write reports/example/ from it
	$(BIN)/python eval/sweep.py out=reports/example-run
	$(BIN)/python -m eval.reporting.example reports/example-run

test: $(VENV)/.installed check  ## lint, types and tests; offline, on the CPU
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m 'not gpu and not network and not slow' $(ARGS)

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: $(VENV)/.installed  ## resolve pyproject.toml into requirements.lock again
	$(UV) pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links -q -o requirements.lock

clean:  ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache

# uv where there is one; otherwise it is installed into the environment that it then fills.
SYSTEM_UV := $(shell command -v uv 2>/dev/null)
UV := $(if $(SYSTEM_UV),$(SYSTEM_UV),$(BIN)/uv)

$(VENV)/.installed: requirements.lock pyproject.toml
ifneq ($(SYSTEM_UV),)
	$(UV) venv --quiet --allow-existing --python '>=3.11,<3.14' $(VENV)
else
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
endif
	$(UV) pip install --quiet --python $(BIN)/python -r requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

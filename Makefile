# Four words to learn: setup, demo, test, check. Each does all the set-up it needs.
#
#   PYTHON   a Python 3.11 or 3.12                             make setup PYTHON=python3.12
#   VENV     where the environment is kept                     make test VENV=/somewhere/else
#   TORCH    cpu = install without CUDA (docs/how-to/install-without-cuda.md)
#   DEMO     where the demo writes

PYTHON ?= python3.11
VENV   ?= .venv
TORCH  ?= default
DEMO   ?= demo

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN    := $(abspath $(VENV))/bin
EXTRAS := .[dev,flower-simulation]
# Named after the content, not the date, so that neither a fresh clone nor a restored cache installs 7 GB again.
PINS   := $(shell cat pyproject.toml constraints.txt | cksum | tr ' ' '-')-$(TORCH)
STAMP  := $(abspath $(VENV))/.installed-$(PINS)

# What tests write is gigabytes: what belongs to tests that passed goes at once.
TIDY   := -o tmp_path_retention_policy=failed -o tmp_path_retention_count=1

CHECKS := "ruff format --check --output-format concise ." "ruff check --output-format concise ." "mypy" "lint-imports" \
    "python -m pip check --disable-pip-version-check" "python -m pytest -q tests/test_architecture.py"

# An environment that several checkouts share runs the code of this one.
export PYTHONPATH := $(CURDIR)
# One thread a process: results do not depend on the number of cores, and two processes do not fight over two cores.
export OMP_NUM_THREADS := 1
# Nothing calls home.
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export RAY_USAGE_STATS_ENABLED := 0
export NO_ALBUMENTATIONS_UPDATE := 1

.PHONY: help setup demo test check format clean distclean

help: ## say what there is
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

setup: $(STAMP) ## the environment, with exactly what was tested together (7 GB; 3 minutes on a fast line)

$(STAMP):
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v in ((3, 11), (3, 12)) else "Python %d.%d: SARCO-FL needs 3.11 or 3.12; name one with PYTHON=..." % v)'
	$(PYTHON) -m venv "$(VENV)"
ifeq ($(TORCH),cpu)
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	"$(BIN)/uv" pip install --python "$(BIN)/python" --torch-backend cpu -c constraints.txt -e '$(EXTRAS)'
else
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '$(EXTRAS)'
endif
	rm -f "$(abspath $(VENV))"/.installed-*
	touch "$(STAMP)"

demo: $(STAMP) ## three synthetic hospitals, three ways of training, one report
	"$(BIN)/sarco-lab" demo --out "$(DEMO)" --scale small --seed 1

test: $(STAMP) ## the whole suite
	"$(BIN)/python" -m pytest -n 2 --dist worksteal $(TIDY)

check: $(STAMP) ## format, lint, types, import rules, versions, architecture: all of them, also after a failure
	@status=0; for step in $(CHECKS); do echo "== $$step"; "$(BIN)"/$$step || status=1; done; exit $$status

format: $(STAMP) ## rewrite files the way `make check` wants them
	"$(BIN)/ruff" format .
	"$(BIN)/ruff" check --fix .

clean: ## remove the demo and the tools' caches
	rm -rf "$(DEMO)" build dist *.fab .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

distclean: clean ## remove the environment as well
	rm -rf "$(VENV)"

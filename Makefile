# Everything runs in an environment of its own in .venv, made at first use. Nothing else on the machine is changed.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
# Of `make test`; each has a core (or its share of them) to itself. The long tests measure times and run in one.
PROCESSES ?= 2
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
# Modules are compiled when they are first imported: compiling all 20,000 of them takes a minute and a half of one core, most are never used.
# Where this is set, as in many images, each process would compile them again: half a minute at each start of a worker.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := $(PIP) install --quiet --no-compile --constraint constraints.txt

.PHONY: help demo test test-all lint format constraints clean
.DEFAULT_GOAL := help

help:
	@echo "make demo         install, then play a whole conversation: from /train to a trained model"
	@echo "make test         the test suite (up to 15 minutes on two cores)"
	@echo "make test-all     with the long tests: every network, fault suites, full conversations"
	@echo "make lint         style, types and import rules"
	@echo "make constraints  pin all dependencies anew, in a fresh environment"
	@echo "make clean        remove $(VENV)"

demo: $(VENV)/.all
	@$(VENV)/bin/stationmaster demo

test: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -m "not long" --numprocesses $(PROCESSES) --dist loadfile

test-all: $(VENV)/.dev
	$(VENV)/bin/python -m pytest

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(VENV)/.dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

constraints:
	PYTHON="$(PYTHON)" bash tools/pin-constraints

clean:
	rm -rf $(VENV)

# ---- the environment; each stamp says that an installation ended well, so that the next call is quick

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found. Say which with: make PYTHON=/path/to/python3.11"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Say which with: make PYTHON=/path/to/python3.11"; exit 1; }
	@rm -rf $(VENV)
	@"$(PYTHON)" -m venv $(VENV) \
		|| { echo "A virtual environment cannot be made; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@touch $@

$(VENV)/.all: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "Installing Stationmaster and all it needs into $(VENV) (PyTorch included: several GB, 3 to 15 minutes the first time) …"
	@$(INSTALL) --editable '.[all]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "Installing Stationmaster, all it needs and the tools for tests into $(VENV) (several GB, 3 to 15 minutes the first time) …"
	@$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.all

# A fresh clone needs Python >= 3.11 and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install lint test demo clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml setup.py $(wildcard vlm/ssm/native/*.cpp vlm/ssm/native/*.h)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "vlm needs Python >= 3.11, found $$($(PYTHON) --version); run: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest

# make demo: draws clips of its own and searches them, without a download.
# make demo VIDEOS=folder [ENCODER=spec] [QUERY=text]: adds that folder to ./demo/own and searches it.
VIDEOS ?=
ENCODER ?=
QUERY ?= a person
OWN := --library demo/own $(if $(ENCODER),--encoder "$(ENCODER)")

demo: install
ifeq ($(strip $(VIDEOS)),)
	$(BIN)/vlm demo demo/toybox
else
	$(BIN)/vlm add "$(VIDEOS)" $(OWN)
	$(BIN)/vlm search "$(QUERY)" $(OWN) -k 5 --sheet demo/hits-$$(date +%s).png
	$(BIN)/vlm stats --library demo/own
endif

clean:
	rm -rf $(VENV) build dist demo ./*.egg-info

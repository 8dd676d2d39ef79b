# A fresh clone needs Python >= 3.11 and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install lint test demo clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "vlm needs Python >= 3.11, found $$($(PYTHON) --version); run: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest

# make demo VIDEOS=folder ENCODER=spec: adds the folder to ./demo/library, then searches it.
VIDEOS ?=
ENCODER ?=
QUERY ?= a person

demo: install
	@$(if $(VIDEOS),,echo "name a folder of videos: make demo VIDEOS=~/Videos [ENCODER=openclip:ViT-B-32/datacomp_xl_s13b_b90k] [QUERY='a dog jumps']"; exit 2)
	$(BIN)/vlm add "$(VIDEOS)" --library demo/library $(if $(ENCODER),--encoder "$(ENCODER)")
	$(BIN)/vlm search "$(QUERY)" --library demo/library $(if $(ENCODER),--encoder "$(ENCODER)") -k 5
	$(BIN)/vlm stats --library demo/library

clean:
	rm -rf $(VENV) build dist demo ./*.egg-info

# Every task of the project; `make help` lists them. The virtual environment is made on first use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DOCS := $(VENV)/.docs

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast lint format check leaderboards reproduce site docs benchmark clean

help: ## list the tasks
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(READY)

$(DOCS): $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $(DOCS)

demo: $(READY) ## the main job on embedded data: four methods under one protocol, with their table and pictures
	$(BIN)/ddbench run --method random,herding,vlcp,full --eval rded --ipc 10 --registry demo/registry
	$(BIN)/ddbench gallery --method random,herding,vlcp --registry demo/registry --out demo/gallery.png

test: $(READY) ## all tests (about a quarter of an hour on two cores)
	$(BIN)/python -m pytest -n auto --dist worksteal

test-fast: $(READY) ## the tests that train nothing
	$(BIN)/python -m pytest -m "not slow"

lint: $(READY) ## style, types, layers, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell ddbench plugins tests docs tools benchmarks README.md CONTRIBUTING.md

format: $(READY) ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: $(READY) ## whether records are in order and the tables follow from them
	$(BIN)/ddbench registry verify
	$(BIN)/ddbench leaderboard --check

leaderboards: $(READY) ## make the tables from the records
	$(BIN)/ddbench leaderboard --registry registry --out leaderboards

reproduce: $(READY) ## run published cells that fit a CPU again, hours on CIFAR-10; the verdicts (docs/results/leaderboards.md)
	mkdir -p build/reproduced
	cp -r registry/published build/reproduced/
	for study in leaderboards/studies/reproduce-*.toml; do $(BIN)/ddbench run "$$study" --registry build/reproduced --out build/reproduced/boards || exit; done
	$(BIN)/ddbench leaderboard --board reproduced --registry build/reproduced

site: $(READY) ## the registry as one web page, with its contact sheets
	$(BIN)/ddbench gallery --keep --registry registry
	$(BIN)/ddbench site --registry registry --out site

docs: $(DOCS) ## the documentation as a site in build/docs; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo build/docs/index.html

benchmark: $(READY) ## evaluators against released code's way, on DATA=cifar10 about 75 minutes (docs/reference/benchmarks.md)
	$(BIN)/python benchmarks/evaluators.py --data '$(DATA)' --out benchmark.jsonl

clean: ## remove what the demo made; the environment and the artifact cache stay
	rm -rf demo

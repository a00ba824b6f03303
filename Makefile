PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: run test slow check docs bench least clean

run: .venv/core ## the thesis's table on the MNIST test set, from the shipped weights
	$(BIN)/carso reproduce thesis --pretrained --out out/thesis

test: .venv/dev ## the test suite
	$(BIN)/pytest

slow: .venv/dev ## what takes minutes: trainings, several processes, the wheel, the commands of the pages
	$(BIN)/pytest -m slow

check: .venv/dev ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/docs ## the documentation as a site, in out/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/core: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) -e .
	touch $@

.venv/dev: .venv/core
	$(PIP) -e .[dev]
	$(PIP) --no-deps torchattacks==3.5.1
	$(PIP) --no-deps timm==1.0.31
	touch $@

.venv/docs: .venv/dev
	$(PIP) -e .[docs]
	touch $@

bench: .venv/bench ## races against the peers, on quiet cores; figures into benchmarks/results/bench/bench.json
	$(BIN)/python -m benchmarks.speed mnist-thesis --rounds 3 --out benchmarks/results/bench/bench.json

least: .venv/core ## the suite on the least versions that pyproject.toml names, in an environment of its own
	$(BIN)/python benchmarks/runs/least_versions.py

.venv/bench: .venv/dev benchmarks/speed/requirements.txt
	$(PIP) -r benchmarks/speed/requirements.txt
	touch $@

clean:
	rm -rf .venv out

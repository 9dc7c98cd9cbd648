# make demo   open napari with the sample brain, its scores and heat map; without a display, leave them in demo/
# make test   the whole test suite, in a virtual screen where there is none
# make lint   ruff, mypy, import-linter
# make bench  time and memory of the engine against a plain forward pass and peers, in half an hour, to docs/performance.md
#             (OPTIONS=--quick: a few cases in a few minutes, nothing written)
# make bench-reading  time and memory of reading scans, against peers, to docs/performance.md
# make bench-loading  time of loading a bundle safely, against MONAI's own way, to docs/performance.md
# Each makes .venv (bench: .venv-bench) and installs what it needs first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
SCREEN := $(if $(filter Linux,$(shell uname -s)),xvfb-run -a -s "-screen 0 1600x1000x24",)

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench bench-reading bench-loading screenshots clean

help:
	@sed -n 's/^# //p' Makefile

$(VENV)/.demo: pyproject.toml constraints.txt tools/system-libraries.sh
	PYTHON=$(PYTHON) tools/system-libraries.sh
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all]'
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.demo
	$(BIN)/napari-gradcam demo

test: $(VENV)/.dev
	$(SCREEN) $(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(BENCH)/.peers: pyproject.toml constraints.txt benchmarks/requirements.txt benchmarks/requirements-nodeps.txt
	test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet -c constraints.txt -e . -r benchmarks/requirements.txt
	$(BENCH)/bin/python -m pip install --quiet --no-deps -r benchmarks/requirements-nodeps.txt
	touch $@

bench: $(BENCH)/.peers
	$(BENCH)/bin/python -m benchmarks.engines $(OPTIONS)

bench-reading: $(VENV)/.dev
	$(BIN)/python -m benchmarks.reading $(OPTIONS)

bench-loading: $(VENV)/.dev
	$(BIN)/python -m benchmarks.loading $(OPTIONS)

screenshots: $(VENV)/.dev
	$(SCREEN) $(BIN)/python docs/make_screenshots.py

clean:
	rm -rf $(VENV) $(BENCH) demo

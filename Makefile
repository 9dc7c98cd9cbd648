# make demo   open napari with the sample brain, its scores and heat map; without a display, leave them in demo/
# make test   the whole test suite, in a virtual screen where there is none
# make test-pyside  the dock and walks through the window once more, with PySide6 in the place of PyQt6
# make lint   ruff, mypy, import-linter
# make bench  time and memory of the engine against a plain forward pass and peers, in half an hour, to docs/performance.md
#             (OPTIONS=--quick: a few cases in a few minutes, nothing written)
# make bench-reading  time and memory of reading scans, against peers, to docs/performance.md
# make bench-loading  time of loading a bundle safely, against MONAI's own way, to docs/performance.md
# make walkthrough  run docs/walkthrough.ipynb and store what it shows
# Each makes .venv (bench: .venv-bench) and installs what it needs first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
PYSIDE := .venv-pyside
SCREEN := $(if $(filter Linux,$(shell uname -s)),xvfb-run -a -s "-screen 0 1600x1000x24",)

.DEFAULT_GOAL := help
.PHONY: help demo test test-pyside lint bench bench-reading bench-loading screenshots walkthrough clean

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

# The other binding of Qt beside all that .venv holds, which a .pth file lends: nothing else is installed twice.
$(PYSIDE)/.peers: $(VENV)/.dev constraints.txt
	test -x $(PYSIDE)/bin/python || $(BIN)/python -m venv $(PYSIDE)
	$(BIN)/python -c 'import site; print(f"import site; site.addsitedir({site.getsitepackages()[0]!r})")' \
		> "$$($(PYSIDE)/bin/python -c 'import site; print(site.getsitepackages()[0])')/lent.pth"
	$(PYSIDE)/bin/python -m pip install --quiet -c constraints.txt PySide6-Essentials
	touch $@

test-pyside: $(PYSIDE)/.peers
	QT_API=pyside6 PYTEST_QT_API=pyside6 $(SCREEN) $(PYSIDE)/bin/python -m pytest --numprocesses auto --dist load \
		-m every_qt tests/viewer

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

walkthrough: $(VENV)/.dev
	$(BIN)/python docs/make_walkthrough.py

clean:
	rm -rf $(VENV) $(BENCH) $(PYSIDE) demo

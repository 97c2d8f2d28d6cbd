# Each target sets itself up: it makes .venv, installs what it needs there, and runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help train test test-tools test-package test-slow test-slow-export test-slow-others lint clean

help:
	@echo "make train      set up and train U-Net on VGG16 on the built-in street scenes"
	@echo "make test       set up and run the tests"
	@echo "make test-slow  set up and run those that take long"
	@echo "make lint       set up and run ruff and mypy"
	@echo "make clean      remove .venv and caches; data and runs stay"

# Rebuilt when the dependencies change; pip, because it takes torch's right build.
$(VENV)/.dev: pyproject.toml
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

train: $(VENV)/.dev
	$(BIN)/python tools/train.py configs/unet_vgg16.yaml

# The tests run in two halves side by side; each is bound to one core.
test test-tools test-package test-slow test-slow-export test-slow-others: export OMP_NUM_THREADS = 1

test:
	@$(MAKE) --no-print-directory --jobs=2 test-tools test-package

test-tools: $(VENV)/.dev
	$(BIN)/python -m pytest tests/tools
	$(BIN)/python -m pytest tests/export tests/doctor

test-package: $(VENV)/.dev
	$(BIN)/python -m pytest --ignore=tests/tools --ignore=tests/export --ignore=tests/doctor

test-slow:
	@$(MAKE) --no-print-directory --jobs=2 test-slow-export test-slow-others

test-slow-export: $(VENV)/.dev
	$(BIN)/python -m pytest tests/export tests/decoders -m slow

test-slow-others: $(VENV)/.dev
	$(BIN)/python -m pytest --ignore=tests/tools --ignore=tests/export --ignore=tests/decoders -m slow
	$(BIN)/python -m pytest tests/tools -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

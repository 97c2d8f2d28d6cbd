# Each target sets itself up: it makes .venv, installs what it needs there, and runs.
PYTHON ?= python3
PYTHON_OLDEST ?= 3.10
VENV := .venv
OLDEST := .venv-oldest
# what has failed with old packages, or may; three minutes
OLDEST_PARTS := tests/config tests/encoders tests/data/test_card.py tests/data/test_raster.py \
	tests/decoders/test_imports.py tests/decoders/test_peer_decoders.py \
	tests/evaluation/test_conventions.py tests/export/test_exported_metadata.py \
	tests/export/test_exported_models.py \
	tests/training/test_trainer.py tests/test_checkpoint_schema.py tests/test_hardware.py tests/test_hub.py
BIN := $(VENV)/bin

.PHONY: help train test test-tools test-package test-slow test-slow-export test-slow-others \
	test-oldest test-oldest-parts test-elsewhere lint clean

help:
	@echo "make train           set up and train U-Net on VGG16 on the built-in street scenes"
	@echo "make test            set up and run the tests"
	@echo "make test-slow       set up and run those that take long"
	@echo "make test-oldest     set up and run the tests with the oldest versions of all packages"
	@echo "make test-elsewhere  set up and run the tests without fork, and with ASCII alone"
	@echo "make lint            set up and run ruff and mypy"
	@echo "make clean           remove .venv, .venv-oldest and caches; data and runs stay"

# Rebuilt when the dependencies change; pip, because it takes torch's right build.
$(VENV)/.dev: pyproject.toml
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# The least version of each package that pyproject.toml names; pip cannot choose them. A Python of
# pyenv's is found only by PYENV_VERSION.
$(OLDEST)/.dev: pyproject.toml $(VENV)/.dev
	$(BIN)/python -m pip install --quiet uv
	PYENV_VERSION=$(PYTHON_OLDEST) $(BIN)/uv venv --quiet --clear --python $(PYTHON_OLDEST) $(OLDEST)
	$(BIN)/uv pip install --quiet --python $(OLDEST) --resolution lowest-direct \
		--editable '.[dev,tensorboard,bench]'
	@touch $@

train: $(VENV)/.dev
	$(BIN)/python tools/train.py configs/unet_vgg16.yaml

# The tests run in two halves side by side; each is bound to one core.
test test-tools test-package test-slow test-slow-export test-slow-others test-oldest \
	test-elsewhere: export OMP_NUM_THREADS = 1

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
	$(BIN)/python -m pytest tests/export tests/attack -m slow

test-slow-others: $(VENV)/.dev
	$(BIN)/python -m pytest --ignore=tests/tools --ignore=tests/export --ignore=tests/attack -m slow
	$(BIN)/python -m pytest tests/tools -m slow

# `make test-oldest TESTS=tests/config` runs a part.
test-oldest: $(OLDEST)/.dev
	$(OLDEST)/bin/python -m pytest $(TESTS)

test-oldest-parts:
	@$(MAKE) --no-print-directory test-oldest TESTS="$(OLDEST_PARTS)"

test-elsewhere: $(VENV)/.dev
	PYTHONPATH=$(CURDIR)/tests/elsewhere $(BIN)/python -m pytest $(TESTS)
	LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 PYTHONIOENCODING=ascii $(BIN)/python -m pytest $(TESTS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(OLDEST) .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Two commands to begin with: `make demo` shows real models at work, `make test` runs every test.
# The first use sets up .venv; a stamp in it remembers, so that later uses install nothing and need no network.

python ?= python3
venv := .venv
bin := $(venv)/bin
workers := -n auto --maxprocesses 4 --dist loadfile

.PHONY: help demo test full check benchmark clean

help:
	@echo "make demo       real models at work, in a minute"
	@echo "make test       every test but the slow ones"
	@echo "make full       the slow tests"
	@echo "make check      style, types, layers"
	@echo "make benchmark  speed beside the peers"
	@echo "make clean      remove all that make has made"

demo: $(venv)/installed
	@$(bin)/python -m bestiary.scripts.demo

test: $(venv)/developed
	$(bin)/python -m pytest $(workers)

full: $(venv)/developed
	$(bin)/python -m pytest $(workers) -m full

check: $(venv)/developed
	$(bin)/ruff check
	$(bin)/mypy
	$(bin)/lint-imports --no-logo

benchmark: $(venv)/developed
	$(bin)/bestiary benchmark

clean:
	rm -rf $(venv) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# A Python without ensurepip (Debian keeps it in a package of its own) lends the new environment its own pip.
$(bin)/pip:
	$(python) -m venv $(venv) || { $(python) -m venv --without-pip $(venv) && $(python) -m pip --python $(bin)/python install pip; }

$(venv)/installed: pyproject.toml | $(bin)/pip
	$(bin)/pip install --editable .
	touch $@

$(venv)/developed: pyproject.toml | $(bin)/pip
	$(bin)/pip install --editable '.[dev]'
	touch $(venv)/installed $@

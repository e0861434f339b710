# Two commands: `make demo` and `make test`. Each makes .venv when it is missing and installs what it needs.

VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready
# What the test command gets on top, for example: make test ARGS="-x -k pool", or ARGS="-n 0 --pdb"
ARGS ?=
# A process for each core and one more, up to four. One that is done takes tests from another;
# those of a module stay together, so that what a module sets up is set up once or twice.
WORKERS := -n auto --maxprocesses 4 --dist worksteal
# How long the soak lasts: make soak MINUTES=60
MINUTES ?= 10

# Tests start processes by the hundred, which load the same modules.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs package environments matrix bench soak clean

help:
	@echo "make demo    send mail through a small SMTP server, show what arrived, and serve pages to look at"
	@echo "             (make demo ONCE=1 runs through and ends)"
	@echo "make test    run the tests on all cores (make test ARGS='-n 0' takes one)"
	@echo "make lint    check format, style and types"
	@echo "make docs    build the documentation into docs/_build/html; warnings are errors"
	@echo "make package build sdist and wheel into dist/, and try the wheel with each extra outside the checkout"
	@echo "make matrix  run the tests with each Python and Django that is supported and found here"
	@echo "make bench   measure what mailbridge costs beside others (make bench ARGS=--quick is rough and short)"
	@echo "make soak    send through servers that fail at random, and account for every mail (make soak MINUTES=10)"
	@echo "make clean   remove .venv and everything else that was generated"

demo: $(READY)
	@echo "demo: sends mail from Django and Flask through a local SMTP server and shows what became of it"
	@$(PYTHON) -m example_project.demo $(if $(filter-out 0,$(ONCE)),--once)

test: $(READY)
	@echo "test: runs the tests, in random order"
	@$(PYTHON) -m pytest $(WORKERS) $(ARGS)

lint: $(READY)
	@echo "lint: checks format (ruff), style (ruff) and types (mypy, strict)"
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy

docs: $(READY)
	@echo "docs: builds the documentation into docs/_build/html"
	@$(PYTHON) -m sphinx --quiet --fail-on-warning --keep-going --builder html docs docs/_build/html

package: $(READY)
	@echo "package: builds sdist and wheel, checks their metadata, and tries the wheel outside the checkout"
	@rm -rf dist
	@$(PYTHON) -m build --outdir dist >/dev/null
	@$(PYTHON) -m twine check --strict dist/*
	@$(PYTHON) .ci/check-package dist

environments: $(READY)
	@echo "environments: makes those of the matrix, one for each pair of Python and Django"
	@$(PYTHON) -m pip install --quiet --group matrix
	@$(PYTHON) -m nox --install-only

matrix: environments
	@echo "matrix: runs the tests with each supported pair of Python and Django"
	@$(PYTHON) -m nox --no-install $(if $(ARGS),-- $(ARGS))

bench: $(READY)
	@echo "bench: measures what mailbridge costs beside others"
	@$(PYTHON) -m pip install --quiet --group bench
	@$(PYTHON) -m benchmarks $(ARGS)

soak: $(READY)
	@echo "soak: sends through servers that fail at random, and accounts for every mail"
	@$(PYTHON) -m tests.soak --minutes $(MINUTES) $(ARGS)

clean:
	@echo "clean: removes .venv, caches and build results"
	@rm -rf $(VENV) .matrix .nox build dist docs/_build .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is newer than pyproject.toml, or the environment is brought up to date. pip learnt
# --group in 25.1, so it comes first.
$(READY): pyproject.toml
	@test -x $(PYTHON) || .ci/make-venv $(VENV)
	@echo "install: puts mailbridge and the development tools into $(VENV)"
	@$(PYTHON) -m pip install --quiet --upgrade "pip>=25.1"
	@$(PYTHON) -m pip install --quiet --editable ".[django,flask,scram,dkim,testing]" --group dev
	@touch $@

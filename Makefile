# Two commands do all: `make figures` and `make test`. Each sets up .venv first if it is missing.
#
#   make figures              the core figures at profile quick      ALL=1: every notebook
#   make figures ARGS="nae/eight_gaussians --profile smoke"          further arguments of `oodlab figures`
#   make test                 laws, contracts and studies            TESTS=path: some of the tests
#   make test-all             these, and the machine: notebooks at smoke size, kernels, clusters, browsers
#   make lab                  JupyterLab on the notebooks
#   make bench                speed as ratios to a plain loop
#   make gpu                  the tests, the speed and some trainings on a GPU, within nine minutes    OUT=folder
#   make trained              anew the small trainings that panels begin with (oodlab/trained)
#   make digests              anew the table of what the data sets' values are (oodlab/digests.csv)
#   make figures PYTHON=python3.12                                   another Python (3.11 to 3.13)

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

export OMP_WAIT_POLICY ?= PASSIVE  # threads that wait sleep: spinning ones slow down whatever else runs

.PHONY: figures test test-all lab bench gpu trained digests

figures: $(READY)
	$(BIN)/oodlab figures $(if $(ALL),--all) $(ARGS)

test: $(READY)
	$(BIN)/ruff check
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal $(or $(TESTS),tests/laws tests/contracts tests/studies)

test-all: test
	$(BIN)/python -m pytest tests/machine

lab: $(READY)
	$(BIN)/jupyter lab notebooks/index.ipynb

bench: $(READY)
	$(BIN)/python -m tests.bench

gpu: $(READY)
	$(BIN)/python -m tests.bench.gpu $(or $(OUT),runs/gpu) $(ARGS)

trained: $(READY)
	$(BIN)/python -m oodlab.studies.nae.ship

digests: $(READY)
	$(BIN)/python -c 'from oodlab.data import digests; digests.main()'

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else \
	  "oodlab needs Python 3.11 to 3.13, $(PYTHON) is " + sys.version.split()[0] + ": try make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

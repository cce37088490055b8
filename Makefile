# make demo         run the quickstart notebook against a server inside its kernel
# make test         the whole test suite
# make test-oldest  the same, on the oldest versions that pyproject.toml admits
# make check        style, types, layers, exports
# make bench        side by side with peers, as ratios
# make lab          JupyterLab with the notebooks
#
# Each sets up what it needs. PYTHON=python3.12 chooses another Python, in an environment of its own.

PYTHON ?= python3
VENV := $(if $(filter python3,$(PYTHON)),.venv,.venv-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
OLDEST := $(VENV)-oldest
NEW_ENOUGH = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
  { echo "orchnb needs Python 3.10 or newer; name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
PREFECT_ENV := env -u PREFECT_API_URL -u PREFECT_API_KEY -u PREFECT_PROFILE

.PHONY: demo test test-oldest check bench lab setup clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(NEW_ENOUGH)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --editable '.[server,test]'
	@touch $@

# Made anew each time: pip would keep what is there already wherever a bound allows it.
$(OLDEST)/.installed: pyproject.toml constraints.txt tools/oldest.py
	@$(NEW_ENOUGH)
	$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  packaging 'tomli; python_version < "3.11"'
	$(OLDEST)/bin/python tools/oldest.py > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint $(OLDEST)/constraints.txt --editable '.[server,test]'
	@touch $@

demo: setup
	@$(PREFECT_ENV) $(BIN)/python tools/demo.py notebooks/01_quickstart.ipynb build

# A file of tests at a time on each core: what a file shares, such as a server, is started once.
PARALLEL := -n auto --dist loadfile

test: setup
	$(BIN)/python -m pytest $(PARALLEL)

test-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest $(PARALLEL)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -q tests/test_layers.py tests/test_exports.py

bench: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --editable '.[server,test,bench]'
	$(BIN)/python benchmarks/run.py

lab: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt jupyterlab
	$(BIN)/jupyter lab --ip=127.0.0.1 notebooks/01_quickstart.ipynb

clean:
	rm -rf $(VENV) $(OLDEST) build dist

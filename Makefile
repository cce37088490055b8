# make demo         run the quickstart notebook against a server inside its kernel
# make test         the whole test suite
# make test-oldest  the same, on the oldest versions that pyproject.toml admits
# make test-newest  the same, on the newest versions that it admits, with no version pinned
# make test-prefect PREFECT=3.6.0  what talks to Prefect's server, on that version of it
# make check        style, types, layers, exports
# make soak         memory and threads over a hundred thousand requests; ORCHNB_SOAK_REQUESTS=1000 asks for fewer
# make bench        side by side with peers, as ratios; OPTIONS=--once only sees that each comparison works
# make scale        two hundred runs on PostgreSQL and two workers; ORCHNB_SCALE_RUNS=20 asks for fewer
# make binder       what Binder does with binder/, in an environment of its own, and the notebooks there
# make wheel        build the wheel, check it, and run the tests against it
# make commands     each of these, and all else that README says to type, in small, in a fresh copy
# make docs         build the documentation in build/site, with the notebooks as they run
# make lab          JupyterLab with the notebooks
#
# Each sets up what it needs. PYTHON=python3.12 chooses another Python, in an environment of its own; TESTS=...
# names some of the tests that a target runs.

PYTHON ?= python3
VENV := $(if $(filter python3,$(PYTHON)),.venv,.venv-$(notdir $(PYTHON)))
# Where venv puts programs.
SCRIPTS := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN := $(VENV)/$(SCRIPTS)
OLDEST := $(VENV)-oldest
NEW_ENOUGH = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
  { echo "orchnb needs Python 3.10 or newer; name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
# Its own database, and no profile of the person's: what a demo makes is nobody's runs.
DEMO_ENV := env -u PREFECT_API_URL -u PREFECT_API_KEY -u PREFECT_PROFILE -u PREFECT_PROFILES_PATH \
  -u PREFECT_SERVER_DATABASE_CONNECTION_URL -u PREFECT_API_DATABASE_CONNECTION_URL \
  PREFECT_HOME="$(CURDIR)/build/demo-home"

.PHONY: demo test test-newest test-oldest test-prefect check bench soak scale binder wheel docs commands lab setup clean

# The pip that venv brings may be older than 25.1, the first that knows dependency groups.
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
NEW_PIP := $(PIP_INSTALL) --constraint constraints.txt --upgrade pip

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(NEW_ENOUGH)
	@echo "Installing what orchnb needs into $(VENV): more than 1 GB, which takes minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(NEW_PIP)
	$(BIN)/python $(PIP_INSTALL) --constraint constraints.txt --group dev --editable '.[server]'
	@touch $@

# Prefect 3.6 warns with newer versions of fastapi, and its own `prefect server start` answers 500 with 0.150;
# with newer ones of pydantic-settings it reads no .env.
FOR_3_6 := 'fastapi<0.131' 'pydantic-settings<2.13'

# Made anew each time: pip would keep what is there already wherever a bound allows it.
$(OLDEST)/.installed: pyproject.toml constraints.txt tools/oldest.py
	@$(NEW_ENOUGH)
	$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/$(SCRIPTS)/python $(NEW_PIP)
	$(OLDEST)/$(SCRIPTS)/python $(PIP_INSTALL) --constraint constraints.txt \
	  packaging 'tomli; python_version < "3.11"'
	$(OLDEST)/$(SCRIPTS)/python tools/oldest.py > $(OLDEST)/constraints.txt
	printf '%s\n' $(FOR_3_6) >> $(OLDEST)/constraints.txt
	$(OLDEST)/$(SCRIPTS)/python $(PIP_INSTALL) --constraint $(OLDEST)/constraints.txt \
	  --group dev --editable '.[server]'
	@touch $@

# The newest versions that the bounds admit, whatever constraints.txt says.
NEWEST := $(VENV)-newest
$(NEWEST)/.installed: pyproject.toml
	@$(NEW_ENOUGH)
	$(PYTHON) -m venv --clear $(NEWEST)
	$(NEWEST)/$(SCRIPTS)/python $(PIP_INSTALL) --upgrade pip
	$(NEWEST)/$(SCRIPTS)/python $(PIP_INSTALL) --group dev --editable '.[server]'
	@touch $@

demo: setup
	@$(DEMO_ENV) $(BIN)/python tools/demo.py notebooks/01_quickstart.ipynb build

# Each test has a limit of its own, 300 s at most, at which it fails and cleans up. Where that hangs too, in
# native code or in the cleaning, the process says where all its threads are, and ends.
WATCHED := -o faulthandler_timeout=400 -o faulthandler_exit_on_timeout=true

# A worker that ends so, or crashes, ends the run: xdist would start another, and wait for ever at the end.
WATCHED += --max-worker-restart=0

# A file of tests at a time in each worker: what a file shares, such as a server, is started once. Those
# that take minutes come first, so that no worker has one at the end while the others have nothing. There is
# one worker more than cores, as tests wait for a quarter of their time.
WORKERS = $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')
PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(WATCHED)
TESTS = tests/test_notebooks.py tests/notebook/test_hostile_text.py tests/runs/test_run_displays.py \
  tests/browser/test_watch.py tests/notebook/test_stop_button.py tests/notebook/test_open_server.py \
  tests/api/test_sent_once.py tests

# Other versions of ipykernel, each in a folder that tests put before the installed one; the packages that
# it needs are those of the environment.
KERNELS := build/ipykernel-6.29.5 build/ipykernel-7.3.0
build/ipykernel-%: | setup
	$(BIN)/python $(PIP_INSTALL) --no-deps --target $@ ipykernel==$*

test: setup $(KERNELS)
	$(BIN)/python -m pytest $(PARALLEL) $(TESTS)

test-newest: $(NEWEST)/.installed
	$(NEWEST)/$(SCRIPTS)/python -m pytest $(PARALLEL) $(TESTS)

test-oldest: $(OLDEST)/.installed
	$(OLDEST)/$(SCRIPTS)/python -m pytest $(PARALLEL) $(TESTS)

# Another version of Prefect, with all else as it is pinned, or older where that version wants it older.
PREFECT ?= 3.6.0
HELD_BACK := $(if $(filter 3.6.%,$(PREFECT)),$(FOR_3_6))
OTHER := $(VENV)-prefect-$(PREFECT)
$(OTHER)/.installed: pyproject.toml constraints.txt
	@$(NEW_ENOUGH)
	$(PYTHON) -m venv --clear $(OTHER)
	sed -e 's/==/<=/' -e 's/^prefect<=.*/prefect==$(PREFECT)/' constraints.txt > $(OTHER)/constraints.txt
	printf '%s\n' $(HELD_BACK) >> $(OTHER)/constraints.txt
	$(OTHER)/$(SCRIPTS)/python $(NEW_PIP)
	$(OTHER)/$(SCRIPTS)/python $(PIP_INSTALL) --constraint $(OTHER)/constraints.txt \
	  --group dev --editable '.[server]'
	@touch $@

test-prefect: TESTS = tests/api tests/hosting/test_ephemeral.py tests/prefect_server/test_routing.py \
  tests/notebook/test_main_job.py tests/notebook/test_open_server.py tests/notebook/test_prewarm.py \
  tests/notebook/test_startup_display.py tests/test_places.py \
  tests/test_settings_prefect.py tests/test_internals.py
test-prefect: $(OTHER)/.installed
	$(OTHER)/$(SCRIPTS)/python -m pytest $(PARALLEL) $(TESTS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/python tools/type_completeness.py
	$(BIN)/python tools/wording.py
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/python -m pytest -q tests/test_layers.py tests/test_exports.py

bench: setup
	$(BIN)/python benchmarks/run.py $(OPTIONS)

soak: setup
	$(BIN)/python benchmarks/soak.py

scale: TESTS = tests/scale
scale: setup
	$(BIN)/python -m pytest -m scale $(TESTS)

binder: TESTS = tests/binder
binder: setup
	$(BIN)/python $(PIP_INSTALL) --constraint constraints.txt \
	  jupyter-repo2docker
	$(BIN)/python -m pytest -m binder -s $(TESTS)

commands: TESTS = tests/commands
commands: setup
	$(BIN)/python -m pytest -m commands $(TESTS)

# The tests are those of the source distribution, without the package, so that they find the installed one.
WHEEL := $(VENV)-wheel
wheel: setup
	rm -rf dist build/wheel
	$(BIN)/python $(PIP_INSTALL) --constraint constraints.txt --group release
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	$(PYTHON) -m venv --clear $(WHEEL)
	$(WHEEL)/$(SCRIPTS)/python $(NEW_PIP)
	$(WHEEL)/$(SCRIPTS)/python $(PIP_INSTALL) --constraint constraints.txt --group dev "$$(ls dist/*.whl)[server]"
	mkdir -p build/wheel
	tar -xzf dist/*.tar.gz --strip-components=1 -C build/wheel
	rm -r build/wheel/orchnb
	cd build/wheel && $(abspath $(WHEEL))/$(SCRIPTS)/python -m pytest $(PARALLEL) $(TESTS)

# MkDocs ends with an error for each link in the site that leads nowhere. Nothing is fetched while it builds.
NOTEBOOKS := $(patsubst notebooks/%,build/notebooks/%,$(wildcard notebooks/*.ipynb))
build/notebooks/%.ipynb: notebooks/%.ipynb | setup
	@$(DEMO_ENV) $(BIN)/python tools/demo.py $< build/notebooks

docs: setup $(NOTEBOOKS)
	$(BIN)/python $(PIP_INSTALL) --constraint constraints.txt --group docs
	$(BIN)/python -m tools.docs build/notebooks
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

# exec: who stops make stops JupyterLab, and not a shell alone that has started it.
lab: setup
	$(BIN)/python $(PIP_INSTALL) --constraint constraints.txt jupyterlab
	exec $(DEMO_ENV) $(BIN)/jupyter lab --ip=127.0.0.1 notebooks/01_quickstart.ipynb

clean:
	rm -rf $(VENV) $(NEWEST) $(OLDEST) $(OTHER) $(WHEEL) build dist

# harmony-companion. `make help` lists the targets.
PROFILE ?= quick
DATA ?= embedded
NAME := $(PROFILE)$(if $(filter-out embedded,$(DATA)),-$(notdir $(patsubst %/,%,$(DATA))))
GIVEN := $(if $(wildcard $(DATA)/.),$(abspath $(DATA)),$(DATA))
BUILD := build/$(NAME)
RESULTS := results/$(NAME)
VENV ?= .venv
RUN := $(VENV)/bin/python
SOURCES := $(shell find harmonylib -name '*.py' -o -name '*.csv' -o -name '*.json')
NOTEBOOKS := $(sort $(wildcard notebooks/*.ipynb))
TABLES := $(BUILD)/06_tables_figures.ipynb

# Pinned threads make two runs on one machine agree to the last bit; on a larger machine set OMP_NUM_THREADS higher.
export OMP_NUM_THREADS ?= 2
export OMP_WAIT_POLICY ?= PASSIVE
export TQDM_DISABLE := 1
export PYTHONHASHSEED := 0
export PYDEVD_DISABLE_FILE_VALIDATION := 1
export JUPYTER_PLATFORM_DIRS := 1
unexport MPLBACKEND HARMONY_PROFILE PIP_TARGET PIP_PREFIX PIP_REQUIRE_HASHES
export PIP_USER := 0
ifneq ($(words $(DATA)),1)
$(error DATA="$(DATA)": make takes no path with spaces; give a link: ln -s "$(DATA)" data/mine, then DATA=data/mine)
endif
# Kernels work in notebooks/.
ifneq ($(HARMONY_DATA),)
export HARMONY_DATA := $(abspath $(HARMONY_DATA))
endif
ifneq ($(HARMONY_RESULTS),)
export HARMONY_RESULTS := $(abspath $(HARMONY_RESULTS))
endif

.PHONY: help setup reproduce test smoke lint verify drift bench torture colab badges clean
.DELETE_ON_ERROR:

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo '  PROFILE=smoke|quick|long|t4|paper (now $(PROFILE))   DATA=embedded|coco-mini|iharmony4|FOLDER (now $(DATA))'

setup: $(VENV)/.ready  ## make .venv with the exact versions of requirements.lock

$(VENV)/.ready: requirements.lock
	@python=; for p in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && { python=$$p; break; }; done; \
	  test -n "$$python" || { echo 'make setup: needs Python 3.11, 3.12 or 3.13; name one with PYTHON=/path/to/python' >&2; exit 2; }; \
	  $$python -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@touch $@

reproduce: $(BUILD)/plan.txt  ## run the notebooks end to end: every table and figure into results/<profile>[-<data>]/
	@echo "done: open $(RESULTS)/report.html"

# Executed copies are made in build/ (never committed), so that a fresh clone always computes, and a failed run leaves
# no target. The copy under results/ is for readers.
$(BUILD)/%.ipynb: notebooks/%.ipynb $(SOURCES) | $(VENV)/.ready
	@mkdir -p $(BUILD) $(RESULTS)/executed
	$(RUN) -m papermill -k python3 --no-progress-bar --cwd notebooks -p PROFILE $(PROFILE) -p DATA '$(GIVEN)' $< $(BUILD)/$*.part.ipynb
	@$(RUN) -m harmonylib.scrub $(BUILD)/$*.part.ipynb $(RESULTS)/executed/$*.ipynb
	@mv $(BUILD)/$*.part.ipynb $@

# What it will take is said before it starts, and compared with what it took.
$(BUILD)/plan.csv: | $(VENV)/.ready
	$(RUN) -m harmonylib plan --profile $(PROFILE) --data '$(GIVEN)' --out $@

$(BUILD)/plan.txt: $(TABLES) $(BUILD)/07_harmonize_your_own.ipynb
	$(RUN) -m harmonylib plan --profile $(PROFILE) --data '$(GIVEN)' --compare $(BUILD)/plan.csv > $(BUILD)/plan.part.txt
	@mv $(BUILD)/plan.part.txt $@ && cat $@

$(BUILD)/01_data_prep.ipynb: | $(BUILD)/plan.csv
$(BUILD)/02_baselines.ipynb: $(BUILD)/01_data_prep.ipynb
$(BUILD)/03_s2am_t4.ipynb: $(BUILD)/02_baselines.ipynb
$(BUILD)/04_lemart_pretraining.ipynb: $(BUILD)/03_s2am_t4.ipynb
$(BUILD)/05_swinih_ablations.ipynb: $(BUILD)/04_lemart_pretraining.ipynb
$(TABLES): $(BUILD)/05_swinih_ablations.ipynb
$(BUILD)/07_harmonize_your_own.ipynb: $(TABLES)

lint: $(VENV)/.ready  ## ruff on the package, the tests and the notebooks; notebooks stripped
	$(VENV)/bin/ruff check --output-format concise .
	$(VENV)/bin/ruff format --check --quiet .
	$(VENV)/bin/nbstripout --verify --extra-keys 'metadata.papermill cell.metadata.papermill' $(NOTEBOOKS)

test: lint  ## ruff, unit tests, every notebook in the smoke profile, and 06 compared with its committed copy
	$(RUN) -m pytest
	$(MAKE) --no-print-directory smoke
	$(MAKE) --no-print-directory verify

smoke: $(VENV)/.ready  ## every notebook, top to bottom, in the smoke profile
	rm -rf build/nbval
	HARMONY_PROFILE=smoke HARMONY_RESULTS='$(CURDIR)/build/nbval' $(RUN) -m pytest --nbval-lax --nbval-current-env \
	  --nbval-cell-timeout=300 --nbval-kernel-startup-timeout=120 -p no:cacheprovider $(NOTEBOOKS)

verify: $(VENV)/.ready  ## recompute the committed tables from the committed records, make one run from scratch, compare
	rm -rf build/verify && mkdir -p build/verify && cp -r results/quick build/verify/quick
	HARMONY_PROFILE=quick HARMONY_RESULTS='$(CURDIR)/build/verify' $(RUN) -m pytest --nbval --nbval-current-env \
	  --nbval-cell-timeout=300 --nbval-kernel-startup-timeout=120 -p no:cacheprovider results/quick/executed/06_tables_figures.ipynb
	diff -r results/quick/tables build/verify/quick/tables
	$(RUN) -m drift.record swinih

drift: $(VENV)/.ready  ## a small fixed set of results, made twice, against results/drift/reference.json
	$(RUN) -m drift

bench: $(VENV)/.ready  ## this project beside what a reader would otherwise use, as ratios, into results/bench/
	$(RUN) -m benchmarks

torture: $(VENV)/.ready  ## kill runs, break the disk, feed rubbish: what was lost? about 18 minutes, into results/torture/
	$(RUN) -m torture

colab: $(VENV)/.ready  ## every notebook in a simulated Colab (COLAB="python3.12 python3.13"), into results/colab/
	$(RUN) -m colab $(COLAB)

badges:  ## links that open the notebooks in Colab: make badges REPO=owner/name [BRANCH=main]
	@$(firstword $(wildcard $(RUN)) python3) -m colab.badges "$$REPO" "$$BRANCH"

clean:  ## remove executed copies and caches (not the data, not the results)
	rm -rf build data/cache

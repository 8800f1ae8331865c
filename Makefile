# Everything runs in .venv, which the first target that needs it creates (5 to 6 GB with torch).
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PAGE := varec_lib/predictor/page/static varec_lib/predictor/page/voila/page.js varec_lib/predictor/page/voila/page.css

.DEFAULT_GOAL := help
.PHONY: site help course test test-fast app screenshots lab lint format notebooks fuzz lock clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

course: $(READY)  ## install, draw the embedded dataset, run every notebook, print a table of results
	$(BIN)/varec data demo
	$(BIN)/varec course

# nbval reads what a cell shows when the cell has ended, and of more than a thousand messages the last are lost: so
# progress bars move once in five seconds there.
NBVAL := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE TQDM_MININTERVAL=5 $(BIN)/pytest -p no:cacheprovider \
	--nbval-lax --nbval-current-env --nbval-cell-timeout=1800
# Chapter 2 and, in their order, the notebooks that load what it trains; all others run beside them.
FROM_CHAPTER_2 := $(patsubst %,notebooks/%.ipynb,02_cnn_lstm 05_evaluation 06_video_predictor solutions/02_solutions \
	solutions/05_solutions solutions/06_solutions)

test: $(READY) chromium bsdtar nginx  ## run all tests, the committed notebooks among them (25 to 45 minutes on 2 cores)
	$(BIN)/varec data demo
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not alone" tests
	$(BIN)/pytest -m alone tests
	$(MAKE) --jobs 2 compare-from-chapter-2 compare-others

.PHONY: compare-from-chapter-2 compare-others
compare-from-chapter-2:
	$(NBVAL) $(FROM_CHAPTER_2)
compare-others:
	$(NBVAL) $(filter-out $(FROM_CHAPTER_2),$(sort $(wildcard notebooks/*.ipynb notebooks/*/*.ipynb)))

test-fast: $(READY)  ## run the quick tests, about 6 minutes
	$(BIN)/pytest -m "not slow" tests

fuzz: $(READY)  ## read, check and predict 500 damaged videos
	VAREC_FUZZ=500 $(BIN)/pytest -q tests/data/test_fuzzing.py

# What tests need beside Python: installed where that is possible (as root on Debian), else these tests are skipped.
# $(1): programs any of which will do; $(2): Debian's package; $(3): what is skipped without it.
define have
@for name in $(1); do command -v $$name >/dev/null && exit 0; done; \
if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	echo "Installing $(2) for the tests ..."; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(2) >/dev/null; \
fi || true; \
for name in $(1); do command -v $$name >/dev/null && exit 0; done; echo "There is no $(2): $(3) will be skipped."
endef

.PHONY: chromium bsdtar nginx
chromium:
	$(call have,chromium chromium-browser google-chrome-stable google-chrome,chromium,tests in a browser)
bsdtar:
	$(call have,bsdtar unrar unar,libarchive-tools,tests that unpack RAR)
nginx:
	$(call have,nginx /usr/sbin/nginx,nginx-light,the test behind a proxy)

app: $(READY)  ## open the predictor as a web page
	$(BIN)/varec data demo
	$(BIN)/varec app --open

site: $(READY)  ## build the site from the committed notebooks, docs and docstrings, into build/site
	$(BIN)/python site/build.py

screenshots: $(READY) chromium  ## take the pictures of that page in figures/ (needs a model: varec course 02)
	VAREC_SCREENSHOTS=figures $(BIN)/pytest -q tests/predictor/test_screenshots.py

lab: $(READY)  ## open JupyterLab on the first notebook
	$(BIN)/varec data demo
	$(BIN)/jupyter lab notebooks/01_data_exploration.ipynb

lint: $(READY)  ## check style and format of code, notebooks and the page
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/oxfmt --check $(PAGE)

format: $(READY)  ## put code and notebooks into that format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/oxfmt --write $(PAGE)

notebooks: $(READY)  ## run every notebook and save its outputs in place, as they are committed
	$(BIN)/varec data demo
	$(BIN)/varec course --refresh

# For every system and Python at once. Pins that still fit are kept: UPGRADE=--upgrade takes the newest releases instead.
lock: $(READY)  ## renew constraints.txt, and requirements.lock with hashes, after a change of pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-header $(UPGRADE) \
		pyproject.toml --output-file constraints.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-header --generate-hashes \
		--constraints constraints.txt pyproject.toml --output-file requirements.lock

clean:  ## remove what was generated: dataset, experiments, runs (not .venv)
	rm -rf data/stick_actions experiments runs

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "varec needs Python 3.11 or newer; set PYTHON=python3.11")'
	@echo "Installing into .venv: torch and JupyterLab take a few minutes ..."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

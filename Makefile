# Needs make (GNU 3.81 or newer) and Python 3.11 to 3.13, nothing else.
# PYTHON=/path/to/python3 chooses another Python, WORKERS=8 more processes.

VENV := .venv
STAMP := $(VENV)/.installed
BIN := $(VENV)/bin

PYTHON ?=
PYTHONS = $(if $(PYTHON),'$(PYTHON)',python3.13 python3.12 python3.11 python3)
NO_PYTHON = $(if $(PYTHON),PYTHON=$(PYTHON) is not,there is no) Python 3.11 or \
  newer; name one with make PYTHON=/path/to/python3

# One a core, but each takes about a gigabyte.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n > 4 ? 4 : n)))
# Half of the files to each of two workers, hence what the tests of one share is
# compiled once; who is done first takes over some of the other's.
PYTEST = $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

# Compiled programs are kept from one run to the next.
JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0
JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES ?= -1
export JAX_COMPILATION_CACHE_DIR
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS
export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES

.PHONY: help demo test test-slow lint clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile \
	  | awk -F '|' '{ printf "%-15s %s\n", $$1, $$2 }'

demo: $(STAMP)  ## train on sums of 10 digits, test on 10,000, certify (10 minutes)
	@$(BIN)/python -m experiments.addition

test: lint  ## lint, and run the tests except the slow ones
	@$(PYTEST) -m 'not slow'

test-slow: $(STAMP)  ## run the slow tests
	@$(PYTEST) -m slow

lint: $(STAMP)  ## check style and format
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .

clean:  ## remove everything that make and Python made, but no runs
	@rm -rf $(VENV) .cache .pytest_cache .ruff_cache build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment made here goes away if the installation fails or is
# interrupted: half of one would look like a whole one. One that was here before
# is kept, and is tried again the next time.
$(STAMP): requirements.txt
	@made=; fail() { echo "$$1" >&2; exit 1; }; \
	trap 'exit 130' HUP INT TERM; \
	trap 'status=$$?; [ $$status = 0 ] || [ -z "$$made" ] || rm -rf $(VENV); \
	  exit $$status' EXIT; \
	if ! [ -x $(BIN)/python ]; then \
	  for python in $(PYTHONS) ''; do \
	    "$${python:-true}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	      >/dev/null 2>&1 && break; \
	  done; \
	  [ "$$python" ] || fail "$(NO_PYTHON)"; \
	  "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1 \
	    || fail "$$python has no venv module; install it (python3-venv)"; \
	  made=yes; \
	  log=$$("$$python" -m venv --clear $(VENV) 2>&1) \
	    || fail "$$python -m venv failed: $$(echo "$$log" | tail -n 1)"; \
	fi; \
	echo 'Installing into $(VENV) (about a minute)'; \
	log=$$($(BIN)/python -m pip install -q --disable-pip-version-check \
	  --no-input --progress-bar off -r requirements.txt 2>&1) \
	  || fail "installation failed: $$(echo "$$log" | tail -n 1)"; \
	touch $(STAMP)

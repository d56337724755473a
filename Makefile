# The two commands: make run, make test. Both install into .venv first, if something changed.
# ARGS passes flags on:  make run ARGS="--model_name mobilenetv2"   make test ARGS="-k betti"
# PYTHON names the interpreter:  make run PYTHON=/path/to/python3.13
# VENV names another folder than .venv:  make test VENV=.venv-3.13 PYTHON=python3.13

DEMO := --model_name digitnet --dataset_name digits --rho 0.3 --num_epochs 20
VENV := .venv
ifeq ($(filter .venv%,$(VENV)),)
  # It is emptied before it is made.
  $(error VENV=$(VENV): its name has to begin with .venv)
endif
VENV_PYTHON := $(VENV)/bin/python
PRINT_VERSION := sys; print("%d.%d" % sys.version_info[:2])

# In the order in which they are taken: those that run the paper's TensorFlow 2.15, then the others.
PAPERS := 3.11 3.10 3.9
NEWER := 3.13 3.12
SUPPORTED := $(PAPERS) $(NEWER)

# Prints "ok", "not now" (supported, but none of its arguments) or what is wrong with the Python
# that runs it, which may be any, Python 2 included.
define PROBE
import sys
version = "%d.%d" % sys.version_info[:2]
if version not in "$(SUPPORTED)".split():
    print("is Python " + version)
elif version not in sys.argv[1:]:
    print("not now")
elif sys.maxsize < 2**32:
    print("is a 32-bit Python")
else:
    try:
        import ensurepip, venv
        print("ok")
    except ImportError:
        print("has no venv (on Debian and Ubuntu: apt install python" + version + "-venv)")
endef
export PROBE

# An interpreter named on the command line is the only one tried, and decides the version of .venv.
ifeq ($(origin PYTHON),command line)
  SEARCH :=
  WANTED := $(shell "$(PYTHON)" -c 'import $(PRINT_VERSION)' 2>/dev/null)
else
  SEARCH := "$(PAPERS)" "$(NEWER)"
  WANTED := $(SUPPORTED)
endif

# .venv is made anew if its Python is gone, of another version or without pip, or if an install was
# cut short.
VENV_VERSION := $(shell $(VENV_PYTHON) -c 'import pip, $(PRINT_VERSION)' 2>/dev/null)
ifeq ($(filter $(WANTED),$(VENV_VERSION)),)
  STALE := FORCE
endif
ifneq ($(wildcard $(VENV)/installing),)
  STALE := FORCE
endif

# The constraints are given twice: -c in the files does not reach what a package needs to be built.
# pip reads them from the first variable before its version 25.3, from the second since.
CONSTRAINTS := constraints.txt constraints-py312.txt
PIP_INSTALL := PIP_CONSTRAINT="$(CONSTRAINTS)" PIP_BUILD_CONSTRAINT="$(CONSTRAINTS)" \
  $(VENV_PYTHON) -m pip install --quiet --use-pep517 --disable-pip-version-check

.PHONY: help run test test-fast lint bench extras clean FORCE

help:
	@echo "make run    install, then run main.py on the embedded digits, or with ARGS=\"...\""
	@echo "make test   install, then run the tests; make test-fast leaves out the slow ones"
	@echo "make lint   install, then run ruff and mypy"
	@echo "make bench  install, then run the benchmarks (27 minutes) and write benchmarks/results.md"
	@echo "make extras install Ray and UMAP, which parts of python -m reproduce and its tests need"
	@echo "make clean  remove .venv and the caches; runs/ stays"

run: $(VENV)/installed
	$(VENV_PYTHON) main.py $(or $(ARGS),$(DEMO))

# Most tests keep one core busy; those of a file share networks.
IN_PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

test: $(VENV)/installed-dev
	$(VENV_PYTHON) -m pytest $(IN_PARALLEL) $(ARGS)

test-fast: $(VENV)/installed-dev
	$(VENV_PYTHON) -m pytest $(IN_PARALLEL) -m "not slow" $(ARGS)

lint: $(VENV)/installed-dev
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check --quiet .
	$(VENV_PYTHON) -m mypy .

bench: $(VENV)/installed
	$(VENV_PYTHON) -m benchmarks $(ARGS)

extras: $(VENV)/installed-extras

clean:
	@rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# All of PATH is searched: a shim that fails may stand before an interpreter that works. The old
# Python goes first and the marker comes early, so that the next call notices what was cut short.
$(VENV)/pyvenv.cfg: $(STALE)
	@found=; problem=; \
	probe() { \
	  test -z "$$found" || return 0; \
	  program=$$1; shift; \
	  answer=$$("$$program" -c "$$PROBE" "$$@" 2>/dev/null) || answer="does not run"; \
	  case $$answer in \
	    ok) found=$$program ;; \
	    "not now") ;; \
	    *) problem=$${problem:-" ($$program $$answer)"} ;; \
	  esac; \
	}; \
	if test -n "$(PYTHON)"; then probe "$(PYTHON)" $(SUPPORTED); fi; \
	for versions in $(SEARCH); do \
	  for name in $$(printf 'python%s ' $$versions) python3 python; do \
	    IFS=:; for folder in $$PATH; do \
	      unset IFS; \
	      if test -x "$$folder/$$name"; then probe "$$folder/$$name" $$versions; fi; \
	    done; unset IFS; \
	  done; \
	done; \
	if test -z "$$found"; then \
	  echo "No usable Python$$problem: install Python 3.13, 3.12, 3.11, 3.10 or 3.9, 64-bit and with" \
	    "venv, or name one that is there, as in: make run PYTHON=/path/to/python3.13" >&2; \
	  exit 1; \
	fi; \
	echo "Creating $(VENV) with Python $$("$$found" -c 'import $(PRINT_VERSION)'): $$found"; \
	rm -f $(VENV_PYTHON) && "$$found" -m venv --clear --without-pip $(VENV) && \
	touch $(VENV)/installing && $(VENV_PYTHON) -Im ensurepip --upgrade --default-pip >/dev/null

$(VENV)/installed: requirements.txt $(CONSTRAINTS) $(VENV)/pyvenv.cfg
	@echo "Installing TensorFlow and the rest into $(VENV): up to 750 MB to download, 2.8 GB on disk," \
	  "a minute on a fast line ..."
	@touch $(VENV)/installing
	@$(PIP_INSTALL) -r requirements.txt
	@rm $(VENV)/installing
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	@echo "Installing the test tools into $(VENV): up to 80 MB to download ..."
	@touch $(VENV)/installing
	@$(PIP_INSTALL) -r requirements-dev.txt
	@rm $(VENV)/installing
	@touch $@

$(VENV)/installed-extras: requirements-ray.txt requirements-umap.txt $(VENV)/installed-dev
	@echo "Installing Ray and UMAP into $(VENV): up to 130 MB to download ..."
	@touch $(VENV)/installing
	@$(PIP_INSTALL) -r requirements-ray.txt -r requirements-umap.txt
	@rm $(VENV)/installing
	@touch $@

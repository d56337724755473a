# The two commands: make run, make test. Both install into .venv first, if something changed.
# ARGS passes flags on:  make run ARGS="--model_name mobilenetv2"   make test ARGS="-k betti"
# PYTHON names the interpreter:  make run PYTHON=/path/to/python3.11

DEMO := --model_name digitnet --dataset_name digits --rho 0.3 --num_epochs 20
VENV_PYTHON := .venv/bin/python
PRINT_VERSION := sys; print("%d.%d" % sys.version_info[:2])

# Prints "ok" or what is wrong with the Python that runs it, which may be any, Python 2 included.
define PROBE
import sys
version = "%d.%d" % sys.version_info[:2]
if version not in ("3.9", "3.10", "3.11"):
    print("is Python " + version)
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
  CANDIDATES :=
  WANTED := $(shell "$(PYTHON)" -c 'import $(PRINT_VERSION)' 2>/dev/null)
else
  CANDIDATES := python3.11 python3.10 python3.9 python3 python
  WANTED := 3.11 3.10 3.9
endif

# .venv is made anew if its Python is gone, of another version or without pip, or if an install was
# cut short.
VENV_VERSION := $(shell $(VENV_PYTHON) -c 'import pip, $(PRINT_VERSION)' 2>/dev/null)
ifeq ($(filter $(WANTED),$(VENV_VERSION)),)
  STALE := FORCE
endif
ifneq ($(wildcard .venv/installing),)
  STALE := FORCE
endif

# constraints.txt is given twice: -c in the files does not reach what a package needs to be built.
PIP_INSTALL := PIP_CONSTRAINT=constraints.txt $(VENV_PYTHON) -m pip install --quiet --use-pep517 \
  --disable-pip-version-check

.PHONY: help run test lint bench extras clean FORCE

help:
	@echo "make run    install, then run main.py on the embedded digits, or with ARGS=\"...\""
	@echo "make test   install, then run the tests"
	@echo "make lint   install, then run ruff"
	@echo "make bench  install, then run the benchmarks (20 minutes) and write benchmarks/results.md"
	@echo "make extras install Ray and UMAP, which parts of python -m reproduce and its tests need"
	@echo "make clean  remove .venv and the caches; runs/ stays"

run: .venv/installed
	$(VENV_PYTHON) main.py $(or $(ARGS),$(DEMO))

test: .venv/installed-dev
	$(VENV_PYTHON) -m pytest $(ARGS)

lint: .venv/installed-dev
	$(VENV_PYTHON) -m ruff check .

bench: .venv/installed
	$(VENV_PYTHON) -m benchmarks $(ARGS)

extras: .venv/installed-extras

clean:
	@rm -rf .venv .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# All of PATH is searched: a shim that fails may stand before an interpreter that works. The old
# Python goes first and the marker comes early, so that the next call notices what was cut short.
.venv/pyvenv.cfg: $(STALE)
	@found=; problem=; \
	probe() { \
	  test -z "$$found" || return 0; \
	  answer=$$("$$1" -c "$$PROBE" 2>/dev/null) || answer="does not run"; \
	  if test "$$answer" = ok; then found=$$1; else problem=$${problem:-" ($$1 $$answer)"}; fi; \
	}; \
	if test -n "$(PYTHON)"; then probe "$(PYTHON)"; fi; \
	for name in $(CANDIDATES); do \
	  IFS=:; for folder in $$PATH; do \
	    if test -x "$$folder/$$name"; then probe "$$folder/$$name"; fi; \
	  done; unset IFS; \
	done; \
	if test -z "$$found"; then \
	  echo "No usable Python$$problem: install Python 3.11, 3.10 or 3.9, 64-bit and with venv," \
	    "or name one that is there, as in: make run PYTHON=/path/to/python3.11" >&2; \
	  exit 1; \
	fi; \
	echo "Creating .venv with $$found"; \
	rm -f $(VENV_PYTHON) && "$$found" -m venv --clear --without-pip .venv && \
	touch .venv/installing && $(VENV_PYTHON) -Im ensurepip --upgrade --default-pip >/dev/null

.venv/installed: requirements.txt constraints.txt .venv/pyvenv.cfg
	@echo "Installing TensorFlow and the rest into .venv: up to 700 MB to download, 2.2 GB on disk," \
	  "a minute on a fast line ..."
	@touch .venv/installing
	@$(PIP_INSTALL) -r requirements.txt
	@rm .venv/installing
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	@echo "Installing the test tools into .venv: up to 80 MB to download ..."
	@touch .venv/installing
	@$(PIP_INSTALL) -r requirements-dev.txt
	@rm .venv/installing
	@touch $@

.venv/installed-extras: requirements-ray.txt requirements-umap.txt .venv/installed-dev
	@echo "Installing Ray and UMAP into .venv: up to 130 MB to download ..."
	@touch .venv/installing
	@$(PIP_INSTALL) -r requirements-ray.txt -r requirements-umap.txt
	@rm .venv/installing
	@touch $@

# `make help` lists the targets. Variables, all optional:
#   EXTRA=cpu|gpu    which lock file and engine the virtual environment gets
#   PYTHON=...       the interpreter it is made from (3.11 or 3.12)
#   VENV=...         where it lies
#   TORCH_INDEX=...  package index for torch alone, where pip's own one has not the wanted build
#   ARGS=...         more arguments for `make quickstart`

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
# Tiers run in order, so that the first thing broken is the first thing told.
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help setup quickstart test lint test-fast test-real format clean

EXTRA ?= cpu
VENV ?= .venv
TORCH_INDEX ?=
ARGS ?=

# Empty: the first of python3.11, python3.12, python3 that runs and is 3.11 or 3.12.
PYTHON ?=

ifeq ($(filter $(EXTRA),cpu gpu),)
$(error EXTRA is '$(EXTRA)': it must be cpu or gpu)
endif

LOCK := requirements/$(EXTRA).lock
LOG := $(VENV)/setup.log
# Fixed, and newer than what Python ships with: pip 23 needs twice the processor time for the lock.
PIP_VERSION := 26.3
TORCH_VERSION := 2.13.0
# The CPU build is asked for by its full name: most indexes serve a CUDA build of several GB as
# the plain version.
TORCH := torch==$(TORCH_VERSION)$(if $(filter cpu,$(EXTRA)),+cpu)
# Compiling 200 packages to bytecode takes longer than unpacking them; Python does it on first import,
# unless this variable forbids it: then each process of a run would compile torch anew, in 20 seconds.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(VENV)/bin/python -m pip install --quiet --no-deps --no-compile --no-input \
	--disable-pip-version-check --progress-bar off

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS=$$'\t' read -r name what; do
	  printf '%-11s %s\n' "$$name" "$$what"
	done

# Two files in the virtual environment say how far it is:
#   .owner  this checkout and this EXTRA, written when the environment was made. A moved checkout or
#           the other engine gets a new one: scripts hold absolute paths, and both engines are
#           installed as `vllm`, one over the other.
#   .stamp  checksum of what was installed, written last. While it matches, setup does nothing.
setup: ## make the virtual environment and install the locked packages (EXTRA=cpu or gpu)
	@owner="$(CURDIR) $(EXTRA)"
	stamp="$$( (echo "$$owner $(TORCH)"; cat $(LOCK) pyproject.toml) | cksum)"
	if [ "$$(cat "$(VENV)/.stamp" 2>/dev/null || true)" = "$$stamp" ]; then exit 0; fi
	fail() { echo "setup: $$1" >&2; exit 2; }
	step() {  # what is printed, what is to be said when it fails, and the command
	  local text="$$1" hint="$$2" start=$$SECONDS; shift 2
	  printf 'setup: %s ... ' "$$text"
	  if "$$@" >>"$(LOG)" 2>&1; then echo "$$((SECONDS - start)) s"; return; fi
	  printf 'failed. The last lines of %s:\n' "$(LOG)"
	  tail -n 15 "$(LOG)" | sed 's/^/  /'
	  fail "$$text failed$$hint"
	}
	known="$$(cat "$(VENV)/.owner" 2>/dev/null || true)"
	if [ -z "$$known" ] && [ -e "$(VENV)" ] && [ -n "$$(ls -A "$(VENV)")" ]; then
	  # Not made here, so not ours to delete; a virtual environment is used as it is.
	  [ -e "$(VENV)/pyvenv.cfg" ] || fail "$(VENV) exists and is no virtual environment: remove it or set VENV"
	  "$(VENV)/bin/python" -m pip --version >/dev/null 2>&1 || fail "$(VENV) does not work: remove it or set VENV"
	elif [ "$$known" != "$$owner" ] || ! "$(VENV)/bin/python" -c '' 2>/dev/null; then
	  # Run rather than looked up: version managers leave commands on PATH that only print an error.
	  runs() { "$$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1; }
	  python="$(PYTHON)"
	  if [ -n "$$python" ]; then
	    runs "$$python" || fail "PYTHON is '$$python', which does not run or is not Python 3.11 or 3.12"
	  else
	    for python in python3.11 python3.12 python3 ""; do ! runs "$$python" || break; done
	    [ -n "$$python" ] || fail "no Python 3.11 or 3.12 found: install Python 3.11, or set PYTHON to where it is"
	  fi
	  rm -rf "$(VENV)"
	  mkdir -p "$(VENV)"
	  # Until the environment is complete its owner is nobody, so that a run cut short here starts over.
	  echo unfinished >"$(VENV)/.owner"
	  step "virtual environment with $$("$$python" -V)" " (on Debian and Ubuntu, python3-venv may be missing)" \
	    "$$python" -m venv "$(VENV)"
	  step "pip $(PIP_VERSION)" "" $(PIP) pip==$(PIP_VERSION)
	  echo "$$owner" >"$(VENV)/.owner"
	fi
	rm -f "$(VENV)/.stamp"
	# pip writes INSTALLER after a package's files. A package without it was cut short, yet pip would
	# take it for installed; what starts with ~ is an old version that pip was about to delete.
	for site in "$(VENV)"/lib/python3.*/site-packages; do
	  rm -rf "$$site"/~*
	  for info in "$$site"/*.dist-info; do
	    [ ! -d "$$info" ] || [ -e "$$info/INSTALLER" ] || rm -rf "$$info"
	  done
	done
	torch="$(TORCH)"
	index=($(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)"))
	if [ "$(EXTRA)" = cpu ] && ! $(PIP) --dry-run "$${index[@]}" "$$torch" >>"$(LOG)" 2>&1; then
	  # The default build brings libraries of its own, so it alone is installed with its needs.
	  torch="torch==$(TORCH_VERSION)"
	  echo "setup: the package index has no CPU build of torch; taking the default one (several GB)."
	  echo "setup: to avoid that, set TORCH_INDEX to PyTorch's index of CPU builds"
	  step "1/3 $$torch" "" $(filter-out --no-deps,$(PIP)) "$${index[@]}" "$$torch"
	else
	  step "1/3 $$torch" ": set TORCH_INDEX to an index that has it" $(PIP) "$${index[@]}" "$$torch"
	fi
	# pip unpacks one package after the other on one core; every second one goes to a second pip. With
	# --no-deps neither looks at what the other installs.
	halves() {
	  for half in 0 1; do awk -v half=$$half '!/^#/ && NR % 2 == half' "$(LOCK)" >"$(VENV)/.lock$$half"; done
	  $(PIP) -r "$(VENV)/.lock0" & local first=$$! failed=0
	  $(PIP) -r "$(VENV)/.lock1" || failed=1
	  wait "$$first" && [ "$$failed" = 0 ]
	}
	step "2/3 $(LOCK)" "" halves
	step "3/3 selfreward itself" "" $(PIP) --no-build-isolation -e .
	echo "$$stamp" >"$(VENV)/.stamp"

quickstart: setup ## run the whole loop on the embedded model (ARGS=... is passed on)
	@"$(VENV)/bin/python" -m selfreward run ray_jobs/configs/quickstart.yaml $(ARGS)

test: lint test-fast test-real ## everything CI runs

# What the tests import is compiled to bytecode meanwhile, once.
lint: setup ## style, types and the floors of the architecture
	"$(VENV)/bin/python" -c "import ray.data, ray.train.torch, ray.serve, transformers.modeling_utils, peft" \
	  >/dev/null 2>&1 &
	trap 'wait' EXIT
	"$(VENV)/bin/ruff" check .
	"$(VENV)/bin/ruff" format --check .
	"$(VENV)/bin/mypy" --num-workers 2
	"$(VENV)/bin/lint-imports"

# Two at once, whatever the machine has: the tests that start a local Ray mostly wait for it. A file
# stays whole, since its tests share one Ray.
test-fast: setup ## tests without the model
	"$(VENV)/bin/python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=12 -m "not real"

# Only the files that hold such tests: importing all the others takes half a minute.
test-real: setup ## tests with the embedded model on real vLLM
	"$(VENV)/bin/python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=8 -m real \
	  $$(grep -l "mark\.real\b" tests/*.py)

format: setup ## rewrite the code in the house style
	"$(VENV)/bin/ruff" check --fix .
	"$(VENV)/bin/ruff" format .

# The virtual environment and runs/ stay: one takes minutes to make, the other may take days.
clean: ## remove caches and build output
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find selfreward ray_jobs tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The two commands: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
DATA ?= mnist
OUT ?= runs/mnist

# Threads of torch that spin while they wait make training ten times slower on a busy machine.
export OMP_WAIT_POLICY ?= PASSIVE

BIN := $(VENV)/bin
# Written when the environment is complete; it is updated when these two files are newer.
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test lint format types check dist wheels clib arm arm-peers counts loops fuzz nightly \
  soak coverage mutation bench mnist paper models docs pages release-check clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | awk -F '\t' '{printf "  make %-13s %s\n", $$1, $$2}'

demo: $(READY) ## train, pack, verify, infer and bench on the bundled digits, in ./demo/
	@$(BIN)/bwn demo

# Test files share several processes, since kernels take seconds to compile; each takes 1.3 GB.
test: $(READY) ## run all tests, in as many processes as there are cores, at most four
	@$(BIN)/pytest --numprocesses auto --maxprocesses 4 --max-worker-restart 0 --dist loadfile

lint: $(READY) ## check rules and format with ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(READY) ## let ruff fix what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(READY) ## check types with mypy, strict
	@$(BIN)/mypy

check: lint types test ## run lint, types and tests

dist: $(READY) ## build wheel and sdist in dist/, and test the wheel outside the checkout
	@$(BIN)/python tests/installed/check_wheel.py --keep dist

wheels: dist ## build wheels with compiled kernels, x86-64 and 64-bit ARM (Debian: binutils of both); minutes
	@$(BIN)/python -m bwn.kernels.aot.build build/libraries
	@$(BIN)/python -m bwn.kernels.aot.wheels $$(ls -t dist/bwn-*-any.whl | head -n 1) build/libraries dist
	@$(BIN)/python tests/installed/check_wheel.py --compiled $$(ls -t dist/bwn-*_$$(uname -m).whl | head -n 1)

clib: $(READY) ## compile all models to C libraries for this CPU, compare bits (Debian: valgrind); 10 minutes
	@PYTHON=$(BIN)/python tests/compile/check.sh

counts: $(READY) ## count executed instructions on x86-64 and check their budgets (Debian: valgrind); minutes
	@PYTHON=$(BIN)/python tests/counts/x86.sh

arm: $(READY) ## test the ARM wheel on emulated cores: results, instruction budgets (Debian); 10 minutes
	@PYTHON=$(BIN)/python tests/arm/check.sh

arm-peers: $(READY) ## count bwn, ncnn, LiteRT and ONNX Runtime on emulated ARM cores (Debian); an hour
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@PYTHON=$(BIN)/python benchmarks/arm_peers/count.sh --record

loops: $(READY) ## show the kernels' inner loops on ARM, with modeled cycles (Debian: llvm-22); a minute
	@$(BIN)/python tests/counts/loops.py

fuzz: $(READY) ## fuzz the readers of files: make fuzz SECONDS=3600, for each of seven
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	@$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60)

nightly: $(READY) ## random networks of fresh seeds: forbidden pages, special floats, ONNX Runtime
	@seed=$${BWN_SEED:-$$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')}; count=$${BWN_COUNT:-5000}; \
	repeat="BWN_SEED=$$seed BWN_COUNT=$$count make nightly"; echo "repeat: $$repeat"; \
	BWN_SEED=$$seed BWN_COUNT=$$count $(BIN)/python -m pytest tests/robustness \
	  tests/onnx/test_random_graphs_in_onnxruntime.py || { echo "repeat: $$repeat"; exit 1; }

pages: $(READY) ## run every code block of the documents as printed; minutes
	@BWN_EVERY_PAGE=1 $(BIN)/pytest tests/documents

soak: $(READY) ## mixed use for an hour, nothing may leak or change: make soak SECONDS=3600
	@$(BIN)/python -m tests.soak --seconds $(or $(SECONDS),3600)

coverage: $(READY) ## show the branch coverage of all that is not a kernel; 15 minutes
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[quality]'
	@$(BIN)/python -m coverage run -m pytest
	@$(BIN)/python -m coverage report

mutation: $(READY) ## show which changes of MODULE no test sees: make mutation MODULE=bwn/ir/checker.py
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[quality]'
	@$(BIN)/python tests/mutation/mutate.py $(or $(MODULE),bwn/ir/checker.py) $(TESTS)

bench: $(READY) ## compare the built-in networks with ONNX Runtime, OpenVINO, ncnn, LiteRT; 10 minutes
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@$(BIN)/python benchmarks/compare_networks.py -o bench.json
	@$(BIN)/python benchmarks/render.py bench.json

docs: $(READY) ## build the documentation site in build/site, and check its links
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@$(BIN)/python -m sphinx -E -W --keep-going -q -b html -c docs . build/site
	@$(BIN)/python docs/_site/check_site.py build/site
	@echo "Open build/site/index.html"

release-check: ## from a clean clone: versions, wheel on each Python, first minute, demo, site, Dockerfile
	@PYTHON=$(PYTHON) tests/installed/release_check.sh

mnist: $(READY) ## run full MNIST, end to end: make mnist DATA=<folder of the IDX files>
	@mkdir -p $(OUT)
	$(BIN)/bwn train --data $(DATA) --model mlp --scheme margin -o $(OUT)/model.pt
	$(BIN)/bwn pack $(OUT)/model.pt -o $(OUT)/model.bwn
	$(BIN)/bwn verify $(OUT)/model.bwn $(OUT)/model.pt --images $(DATA)
	$(BIN)/bwn bench $(OUT)/model.bwn

paper: $(READY) ## repeat the paper's comparison on MNIST, resumable: make paper DATA=<IDX files>; hours
	$(BIN)/bwn experiment paper --data $(DATA) --out $(OUT)/paper --jobs 2 --weight-decays 0.01,0.1 --lambdas 30,3000

models: $(READY) ## train the models of models/ again: make models DATA=<folder with mnist/, cifar10/>; hours
	for name in $(basename $(notdir $(wildcard models/*.json))); do \
	  $(BIN)/python benchmarks/make_models.py $$name --data $(DATA) || exit 1; done

clean: ## remove build results and the demo's output, but not the environment
	rm -rf build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find bwn kernels cli tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) > /dev/null || { \
	  echo "$(PYTHON) was not found: bwn needs Python 3.11, 3.12 or 3.13; try make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "bwn needs Python 3.11, 3.12 or 3.13; '$(PYTHON)' is not: try make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Installing into $(VENV): torch and the rest, a few minutes the first time."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

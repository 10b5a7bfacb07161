# `make demo` and `make test` are all a fresh machine needs: both make .venv first.
.PHONY: demo test venv lint bench table docs promises clean

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= auto
DEMO ?= runs/demo
# One thread per test process: tiny tensors, and as many processes as cores. Bytecode is kept even where the caller's
# environment says not to: tests start many programs, each of which would compile torch and transformers again.
TEST_ENV := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

demo: venv
	$(BIN)/withheld demo --out $(DEMO)

test: venv lint
	$(TEST_ENV) $(BIN)/python -m pytest -n $(JOBS) --maxprocesses 8 --dist loadfile $(ARGS)

venv: $(VENV)/.made

# Installs again only when what is asked for has changed; what is never imported need not be compiled, which halves it.
$(VENV)/.made: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "withheld needs Python 3.11 or newer; name one: make venv PYTHON=/path/to/python3"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e ".[dev,onnx,detection,lora]"
	@touch $@

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Where the data of some lies: make bench ARGS="--mnist mnist/ --text tinyshakespeare/input.txt"
bench: venv
	$(BIN)/python benchmarks/all.py $(ARGS)

# Every method on DATA; what is there already is not done again. make table DATA="fashion-mnist/ cifar10-jpg.tar.gz" LENGTH="--steps 2000"
LENGTH ?= --minutes 5
table: venv
	@test -n "$(DATA)" || { echo 'name labelled data: make table DATA="fashion-mnist/ cifar10-jpg.tar.gz"'; exit 2; }
	$(BIN)/python benchmarks/table.py $(foreach set,$(DATA),--data $(set)) $(LENGTH) $(ARGS)

# The tests that count for docs/reliability.md, the slow ones too, then the page: half an hour.
promises: venv
	$(TEST_ENV) $(BIN)/python -m pytest -n $(JOBS) --maxprocesses 8 --dist loadfile -m "promise or slow" tests \
		--promises docs/promises.json $(ARGS)
	$(BIN)/python benchmarks/promises.py

docs: venv
	$(BIN)/withheld methods --markdown > docs/methods.md

clean:
	rm -rf build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache

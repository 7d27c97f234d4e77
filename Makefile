# Every target is self-contained: on a fresh clone, `make parity` sets up, exports and proves.

PYTHON ?= python3.11
# onnxruntime-gpu serves the CPU too, but exists for Linux on x86-64 only; ORT=cpu chooses the smaller package.
ORT ?= $(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -)),gpu,cpu)
BIN := .venv/bin
INSTALLED := .venv/.installed-$(ORT)
OPERATORS := .venv/.operators

.DEFAULT_GOAL := help
.PHONY: help setup export parity test test-large test-memory test-properties hunt bench bench-quick bench-zoo gpu coverage lint clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' Makefile | expand -t 17

setup: $(OPERATORS) ## create .venv and install everything into it (ORT=cpu: without CUDA)

export: $(OPERATORS) ## export the zoo from PyTorch and Keras to build/, with the time of each export
	$(BIN)/seqport export

parity: $(OPERATORS) ## export the zoo and prove that all runtimes give the same answers
	$(BIN)/seqport parity

# By file, because the costly fixtures are a file's: what one process exported the other need not.
test: $(OPERATORS) ## run the tests, in two processes
	$(BIN)/pytest -n 2 --dist loadfile

test-large: $(OPERATORS) ## export a model with 2.2 GB of weights (10 GB of memory, 5 GB of disk, a few minutes)
	$(BIN)/pytest -n 0 -m large -s

test-memory: $(OPERATORS) ## measure resident memory over 10,000 runs of random shapes (a few minutes)
	SEQPORT_RUNS=10000 $(BIN)/pytest -n 0 -s tests/runtime/test_memory.py

# `make test` tries a few and always the same; EXAMPLES=3 tries three times as many again.
EXAMPLES ?= 1
test-properties: $(OPERATORS) ## try many random architectures, shapes, masks and states (half an hour; EXAMPLES=3: longer)
	SEQPORT_PROPERTIES=thorough SEQPORT_EXAMPLES=$(EXAMPLES) $(BIN)/pytest -n 2 --dist loadfile tests/properties

# `make test` hunts a few models, always the same. SPEC='{...}' judges one model, as a hunt printed it.
MINUTES ?= 10
SEED ?= 0
hunt: $(OPERATORS) ## hunt for models that slip past the proof, with PyTorch as the judge (MINUTES=240, SEED=1)
	cd tests && ../$(BIN)/python -m hunt --minutes $(MINUTES) --seed $(SEED) $(if $(SPEC),--spec '$(SPEC)')

# Goes on where it was ended; FRESH=--fresh begins anew. On a machine that does nothing else, or the page says so.
bench: $(OPERATORS) ## race seqport against its peers over the whole grid (about 35 minutes); writes docs/benchmarks.md
	$(BIN)/seqport bench --page docs/benchmarks.md $(FRESH)
	$(BIN)/seqport bench zoo

# REQUIRE="ragged_b128_over_padded>=1.3 run_overhead_us<=20" exits with 1 where a bound is broken.
bench-quick: $(OPERATORS) ## the key ratios as JSON, in under a minute
	@$(BIN)/seqport bench quick $(foreach bound,$(REQUIRE),--require '$(bound)')

bench-zoo: $(OPERATORS) ## time the zoo's artifacts on real batches, and how long exports take
	$(BIN)/seqport bench zoo

# Both say why they did nothing where no GPU is, and end well.
gpu: $(OPERATORS) ## the tests and the half of the benchmark that need a GPU; writes docs/benchmarks-gpu.md
	$(BIN)/pytest -n 0 -rs -m gpu
	$(BIN)/seqport bench gpu --page docs/benchmarks-gpu.md $(FRESH)

coverage: $(OPERATORS) ## measure seqport beside other exporters on the models of the tests; writes docs/coverage.md
	cd tests && ../$(BIN)/python -m peers --output ../docs/coverage.md

lint: $(OPERATORS) ## check style, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

clean: ## remove what was built; .venv stays
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# torch comes first and alone, so that nothing else chooses its version. Either package of ONNX Runtime goes before
# the wanted one comes: both at once overwrite each other's files.
$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install 'torch==2.13.*'
	$(BIN)/pip uninstall --yes onnxruntime onnxruntime-gpu
	$(BIN)/pip install --editable '.[dev,$(ORT)]'
	rm -f .venv/.installed-*
	touch $@

# The C files again, where they changed. Here it is an error that they do not compile; an installation goes on without.
$(OPERATORS): $(INSTALLED) $(wildcard runtime/kernels/*.[ch])
	rm -f runtime/kernels/_operators.*
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@[ "$$(uname -m)" != x86_64 ] || ls runtime/kernels/_operators.* >/dev/null || { echo "runtime/kernels was not built: is there a C compiler?"; exit 1; }
	touch $@

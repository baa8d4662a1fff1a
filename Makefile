# Two commands for a new machine: `make demo` and `make test`. Both make .venv from the hashed lock first.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test check format bench-kernels bench-batch bench-realtime bench-peers bench-wires bench-overload \
    bench-swap bench-capacity bench-check chaos soak lock clean

# What is imported is compiled once, a quarter of what is installed; else each of hundreds of processes would do it.
unexport PYTHONDONTWRITEBYTECODE

help:  ## Show the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	@sed -n '/^uv==/,/^ *#/p' requirements.lock > .venv/uv.lock
	$(PIP) --require-hashes --requirement .venv/uv.lock
	$(BIN)/uv pip install --quiet --python .venv --require-hashes --requirement requirements.lock || \
	    $(PIP) --require-hashes --requirement requirements.lock  # slower, but it may be told of an index that uv is not
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

demo: .venv/installed  ## Train on real flights, pack, score Parquet, serve, load-test; writes demo-output/report.html
	$(BIN)/tandem demo --out demo-output

# A library that spread its work over all cores would wait there for the other processes.
test: .venv/installed  ## Format, lint, then types and all tests, in as many processes as there are cores (4 at most)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder

check: .venv/installed  ## Format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/installed  ## Rewrite the sources in the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-kernels: .venv/installed  ## Kernels against other libraries, one core, interleaved
	$(BIN)/python -m load_tests.kernels

bench-batch: .venv/installed  ## Scoring of Parquet against stock Ray Data and hand-written pipelines
	$(BIN)/python -m load_tests.batch

bench-realtime: .venv/installed  ## The endpoint's lanes against Triton, MLServer and Ray Serve
	$(BIN)/python -m load_tests.peers --only tandem tandem-ingress tandem-local triton mlserver ray-serve \
	    ray-serve-haproxy tandem-grpc tandem-local-grpc triton-grpc mlserver-grpc

bench-peers: .venv/installed  ## The same with every peer there is, BentoML and LitServe too
	$(BIN)/python -m load_tests.peers

bench-wires: .venv/installed  ## The same rows as JSON, binary tensors and Arrow, over HTTP
	$(BIN)/python -m load_tests.wires

bench-overload: .venv/installed  ## Twice the capacity for half a minute, and how soon it has recovered
	$(BIN)/python -m load_tests.overload

bench-swap: .venv/installed  ## What reloading a model costs those who ask meanwhile
	$(BIN)/python -m load_tests.swap

bench-capacity: .venv/installed  ## Does the search for the capacity repeat, and did the simulation know it?
	$(BIN)/python -m load_tests.capacity

chaos: .venv/installed  ## Kill batch jobs at every step of their protocol, many times over; prints the table
	$(BIN)/python -m tests.engine.batch.kill_matrix
	$(BIN)/python -m tests.engine.batch.kill_matrix_store
	$(BIN)/python -m tests.engine.batch.kill_matrix_cluster
	$(BIN)/python -m tests.engine.batch.faults

bench-check: .venv/installed  ## Quick benchmarks against load_tests/baseline.json; names what fell by more than its noise
	$(BIN)/python -m load_tests.check

soak: .venv/installed  ## Ten minutes of mixed load, reloads, killed replicas and batch jobs; MINUTES=120 for longer
	$(BIN)/python -m load_tests.soak --minutes $(or $(MINUTES),10)

lock: .venv/installed  ## Resolve pyproject.toml into requirements.lock anew
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
	    --python-version 3.11 --extra dev pyproject.toml --output-file requirements.lock

clean:  ## Remove what the commands above made
	rm -rf .venv .cache demo-output build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Two commands do everything: `make demo` and `make test`. They need Python 3.11+, make and git.
VENV ?= .venv
PYTHON ?= python3
PY := $(VENV)/bin/python
# One stamp per content of the requirement files and checkout: nothing is installed twice, nothing stale is used. The
# checkout itself is installed as it lies here, for the command neuron-repair: another checkout with this environment
# installs itself anew.
STAMP := $(VENV)/.installed-$(shell (cat requirements.txt requirements-dev.txt; pwd) | cksum | cut -d' ' -f1)

.PHONY: help setup demo run test test-slow faults fleet fuzz lint types bench samples clean

help:
	@echo "make demo       set up, start the app, repair the shipped sample through the web API, keep serving"
	@echo "make test       set up, run all tests"
	@echo "make test-slow  the larger checks"
	@echo "make faults     crash machines under running jobs (SECONDS= of all kinds, N= kills of one job)"
	@echo "make fleet      machines that share an S3 store, PostgreSQL and Redis alone, switched off at work (JOBS=, KILLS=)"
	@echo "make fuzz       mutated uploads against the parsers (N= or SECONDS=, SEED=)"
	@echo "make run        set up, start the app (web, workers, private redis) on http://127.0.0.1:8000"
	@echo "make lint       ruff, mypy, layer contract"
	@echo "make bench      install the peers, measure, write benchmarks/tables/"
	@echo "make clean      remove caches and run-time data (not the virtual environment)"

setup: $(STAMP)

$(STAMP): requirements.txt requirements-dev.txt
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@rm -f $(VENV)/.installed-*
	@touch $@

demo: setup
	$(PY) manage.py demo

run: setup
	$(PY) manage.py dev

# Processes of one thread each, one more than cores: browsers and workers under test are waited for. Compiled modules are
# kept whatever the environment says: else each of hundreds of processes compiles the project anew.
WORKERS ?= $(shell $(PYTHON) -c "import os; print(min(8, 1 + (os.cpu_count() or 1)))")
test: setup
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadfile

# Mutated uploads against the parsers: N= inputs, or SECONDS= of them; SEED= makes the same ones again.
N ?= 0
SECONDS ?= 150
SEED ?= 0
fuzz: setup
	OMP_NUM_THREADS=1 $(PY) -m tests.fuzz --n $(N) --seconds $(SECONDS) --seed $(SEED)

test-slow: setup
	$(PY) -m pytest -m slow

# On SQLite and, where it is installed, PostgreSQL; the full disk and the PID namespaces need root.
SECONDS ?= 120
N ?= 100
faults: setup
	OMP_NUM_THREADS=1 $(PY) -m tests.faults --seconds $(SECONDS) --kills $(N)

# Needs PostgreSQL; as root the machines are namespaces, else folders.
JOBS ?= 6
KILLS ?= 4
fleet: setup
	$(PY) -m tests.fleet --jobs $(JOBS) --kills $(KILLS)

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# The peers that the benchmark compares with are installed by nothing else.
BENCH_STAMP := $(VENV)/.bench-$(shell cat requirements.txt requirements-bench.txt | cksum | cut -d' ' -f1)

bench: setup $(BENCH_STAMP)
	$(PY) -m benchmarks all --size small

$(BENCH_STAMP): requirements-bench.txt requirements.txt
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	@rm -f $(VENV)/.bench-*
	@touch $@

clean:
	rm -rf var out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# Each target does its own set-up: all it needs is Python 3.11 or newer and make.
PYTHON ?= python3
PY := .venv/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Its ratings are wanted, and none of the dozens of packages that it needs to run.
RATINGS := --no-deps recbole==1.2.1

.PHONY: demo movielens test test-full lint bench clean

demo: .venv/demo
	$(PY) -m examples.flights

movielens: .venv/demo
	$(PY) -m examples.movielens

# One torch thread a worker: more of them would fight for the cores. Tests of threads set their own number.
test: .venv/dev
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2 --dist loadscope -m "not full"

test-full: .venv/dev
	$(PY) -m pytest -q --timeout 1800

lint: .venv/dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m basedpyright

bench: .venv/bench
	$(PY) -m benchmarks

.venv/base: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) torch numpy
	$(PIP) -e .
	touch $@

.venv/demo: .venv/base
	$(PIP) -e '.[demo]'
	$(PIP) $(RATINGS)
	touch $@

.venv/dev: .venv/base
	$(PIP) -e '.[demo,test,lint]'
	$(PIP) $(RATINGS)
	touch $@

.venv/bench: .venv/base
	$(PIP) -e '.[bench]'
	$(PIP) $(RATINGS)
	$(PIP) --no-deps fbgemm-gpu-cpu==1.8.0
	touch $@

clean:
	rm -rf .venv

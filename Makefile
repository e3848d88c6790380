# One command for each thing that a developer or CI does. `make help` lists them.
#
# Every target makes what it needs first: a virtual environment, the development tools, the extension.
# PYTHON=python3.12 uses another interpreter, with an environment of its own (.venv-python3.12).

PYTHON ?= python3
GROUP ?= dev
VENV := .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install -qq
READY := $(VENV)/.ready
BUILT := $(VENV)/.built
MEASURED := $(VENV)/.measured
SOURCES := $(wildcard src/sessile/*.pyx src/sessile/*.px[di] csrc/*.[ch])
# Where .ci/free-threaded-python looks and puts it; without one the figures that need it say so.
FREE_THREADED := $(firstword $(shell command -v python3.13t) $(wildcard $(HOME)/.pyenv/versions/3.13*t/bin/python3.13t) \
	$(wildcard $(or $(FREE_THREADED_PREFIX),/opt/python-free-threaded)/bin/python3.13t))
SANITIZED = PYTHONPATH=$(CURDIR)/build/sanitized/lib ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)"
DJANGO ?= 5.2 6
NEWER_PYTHON = $(shell for minor in 14 13 12; do \
	for each in python3.$$minor $(HOME)/.pyenv/versions/3.$$minor.*/bin/python3.$$minor; do \
	    $$each -c 'import sys; sys.exit(not getattr(sys, "_is_gil_enabled", lambda: True)())' 2>/dev/null \
	        && command -v $$each && exit; done; done)
JOBS := $(shell getconf _NPROCESSORS_ONLN)

export SESSILE_WERROR := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-fast test-private test-linear test-sanitized django-suites django-5.2 django-6 django-newest flask-suites \
	starlette-suite starsessions-suite check-c crash fuzz fuzz-snapshots lint bench bench-gate bench-smoke wheel sdist-check \
	free-threaded test-free-threaded test-threads-sanitized run-threads-sanitized clean

## help            this list
help:
	@sed -n 's/^## //p' Makefile

## demo            a site under real traffic, then left up for a browser; CHECK=1 ends after the traffic
demo: $(BUILT)
	$(RUN) demo/run.py

## test            the whole test suite
test: $(BUILT)
	$(RUN) -m pytest

## test-fast       the same without what is slow; WITHOUT="tests/web tests/models" leaves these out, too
test-fast: $(BUILT)
	$(RUN) -m pytest -m "not slow" $(WITHOUT:%=--ignore=%)

## test-private    the suite on the private home: memory of one process, never shared
test-private: build/private/.built
	PYTHONPATH=$(CURDIR)/build/private/lib $(RUN) -m pytest -m "not slow and not packaging and not shared_home"

## django-suites   Django's own suites with our engine, then with our middleware too, on the LTS, on 6.0 and on the newest Django,
##                 which need Python 3.12; on the newest our own tests, too; DJANGO=5.2 or 6 only that; pip downloads them
django-suites: $(DJANGO:%=django-%)

django-5.2: $(BUILT)
	$(RUN) tests/web/django/suites.py --django 5.2

django-6:
	@test -n "$(NEWER_PYTHON)" || { echo "Django 6 needs Python 3.12 or newer: none on PATH or among pyenv's."; exit 1; } >&2
	$(MAKE) --no-print-directory django-newest PYTHON=$(NEWER_PYTHON) GROUP=other-python

django-newest: $(BUILT)
	$(RUN) tests/web/django/suites.py --django 6.0
	$(RUN) tests/web/django/suites.py --django 6
	$(RUN) -m pytest tests/web/django --ignore=tests/web/django/test_suites.py

## flask-suites    Flask's own suite, Flask-Login's and Flask-Session's with our sessions; pip downloads them
flask-suites: $(BUILT)
	$(RUN) tests/suites/run_flask.py build/suites

## starlette-suite Starlette's own session tests with our middleware; pip downloads them
starlette-suite: $(BUILT)
	$(RUN) tests/web/starlette_suite.py

## starsessions-suite  the tests of starsessions with a store of its kind on our table; git fetches them (FROM= a clone)
starsessions-suite: $(BUILT)
	$(RUN) tests/web/starsessions_suite.py $(FROM)

## test-linear     that the work for a request grows with what it brings, and no faster: up to 1 MiB, counted by valgrind
test-linear: $(BUILT)
	OCTETS=1048576 $(RUN) -m pytest tests/web/test_linear.py

## test-sanitized  the suite with the C code under the address and undefined-behaviour sanitizers, but for valgrind's
##                 and the models
test-sanitized: build/sanitized/.built
	$(SANITIZED) $(RUN) -m pytest --capture=sys -m "not slow and not packaging" --ignore=tests/test_constant_time.py \
	    --ignore=tests/models

## check-c         the C tests: plain, and under the sanitizers; CC=clang for another compiler
check-c:
	$(MAKE) --no-print-directory -j$(JOBS) --output-sync=target -f tests/c/Makefile

## crash           the tests that kill, at every instruction and at random; SIZE=short (a minute), ci (three), full (some 45
##                 minutes on two processors with nothing else to do; what measures durations comes last and alone)
CRASH = $(MAKE) --no-print-directory -f tests/crash/Makefile PYTHON=$(RUN)
crash: $(BUILT)
ifeq ($(SIZE),full)
	$(CRASH) -j2 build
	$(CRASH) -j2 --output-sync=line stepper wrong faults fuzz histories
	$(CRASH) campaign python servers totals
else
	$(CRASH) -j2 --output-sync=target all python
endif

## fuzz            coverage-guided fuzzing of the web layer, where Atheris has a wheel (3.11, 3.12); SECONDS=60 is the size
fuzz: $(BUILT)
	$(PIP) --group fuzz
	$(RUN) tests/web/fuzz.py --seconds $(or $(SECONDS),60)

## fuzz-snapshots  images and journals with random changes: first the readers in Python on the sanitized build, then what C
##                 reads, coverage-guided (needs clang); SECONDS=60 is the size of each
fuzz-snapshots: build/sanitized/.built
	$(SANITIZED) $(RUN) tests/persistence/fuzz.py --seconds $(or $(SECONDS),60)
	$(MAKE) --no-print-directory -f tests/persistence/Makefile fuzz SECONDS=$(or $(SECONDS),60)

## lint            ruff, mypy --strict, and the stubs against the compiled modules
lint: $(BUILT)
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy
	$(RUN) -m mypy.stubtest sessile._table

## bench           all figures, beside their targets and peers, into benchmarks/RESULTS.md: about ten minutes on a quiet
##                 machine; QUICK=1 about one, to see that all of it runs; NAME=peers only that part
bench: $(BUILT) $(MEASURED) build/symbols/.built
	$(if $(FREE_THREADED),$(MAKE) --no-print-directory .venv-python3.13t/$(if $(QUICK),.built,.measured) \
	    PYTHON=$(FREE_THREADED) GROUP=free-threaded PEERS=bench-pure)
	$(RUN) -m benchmarks $(if $(QUICK),--quick) $(NAME)

## bench-gate      instruction counts against the committed baseline, 3 %; RENEW=1 makes them the baseline. With another
##                 compiler, Python or valgrind than the baseline's they are printed, and there is nothing to compare them with
bench-gate: build/symbols/.built
	$(RUN) -m benchmarks.instructions $(if $(RENEW),--renew,--gate) || [ $$? = 77 ]

## bench-smoke     each benchmark once and small
bench-smoke: $(BUILT)
	$(RUN) -m pytest benchmarks
	$(MAKE) --no-print-directory bench QUICK=1

## wheel           sdist and wheel of this Python in dist/
wheel: $(READY)
	rm -rf src/*.egg-info
	env -u SESSILE_WERROR $(RUN) -m build --outdir dist

## sdist-check     the sdist, built, installed into an empty environment and used there
sdist-check: $(READY)
	rm -rf build/sdist src/*.egg-info
	$(RUN) -m build --sdist --outdir build/sdist
	$(PYTHON) -m venv build/sdist/venv
	env -u SESSILE_WERROR build/sdist/venv/bin/pip install -q build/sdist/sessile-*.tar.gz
	cd build/sdist && venv/bin/python -c 'import sessile; s = sessile.Store().create({"a": 1}); print("works:", s["a"] == 1)'

## free-threaded   builds a free-threaded CPython 3.13 where there is none, and runs the suite on it, without what is slow
free-threaded:
	python=$$(.ci/free-threaded-python) && $(MAKE) --no-print-directory test-free-threaded PYTHON="$$python" GROUP=free-threaded

test-free-threaded: $(BUILT)
	$(RUN) -c 'import sys, sessile; sys.exit(sys._is_gil_enabled() and "importing sessile enabled the GIL")'
	$(RUN) -m pytest -m "not slow and not packaging" --ignore=tests/models

## test-threads-sanitized  tests/test_threads.py on a free-threaded CPython that is built for the thread sanitizer, as is
##                 sessile then; builds both Pythons where they are missing (see free-threaded)
test-threads-sanitized:
	python=$$(.ci/free-threaded-python) && sanitized=$$(THREAD_SANITIZER=1 .ci/free-threaded-python) && \
	$(MAKE) --no-print-directory run-threads-sanitized PYTHON="$$python" SANITIZED_PYTHON="$$sanitized" GROUP=free-threaded

run-threads-sanitized: build/threads/.built
	PYTHONPATH="$(CURDIR)/build/threads/lib:$$(echo $(CURDIR)/$(VENV)/lib/python3*/site-packages)" \
	TSAN_OPTIONS="suppressions=$(CURDIR)/tests/thread_sanitizer.txt exitcode=66 history_size=4" \
	$(SANITIZED_PYTHON) -m pytest tests/test_threads.py

## clean           removes everything that make made, the environments included
clean:
	rm -rf .venv .venv-* build dist src/*.egg-info src/sessile/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# ---- what the targets above stand on ----

# setup.py is run twice in a life: for the first build, by pip, and for later ones in place; both need the build group.
$(READY): pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "sessile needs Python 3.10 or newer, and $(PYTHON) is not. Another one: make PYTHON=python3.12 ..."; exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "$(PYTHON) has no venv module. On Debian or Ubuntu: apt install python3-venv"; exit 1; } >&2
	@command -v $(CC) >/dev/null || { echo "No C compiler. On Debian or Ubuntu: apt install build-essential python3-dev"; exit 1; } >&2
	@echo "Making $(VENV) with the development tools and building sessile: about half a minute, once."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade "pip>=25.1"
	@$(PIP) --group $(GROUP)
	@$(PIP) --no-build-isolation -e .
	@touch $@

$(BUILT): $(READY) $(SOURCES)
	$(RUN) setup.py -q build_ext --inplace
	@touch $@

# What benchmarks measure against, servers aside: pinned, and too much for everybody who only runs the tests.
$(MEASURED): $(BUILT)
	@echo "Installing what sessile is measured against."
	@$(PIP) --group $(or $(PEERS),bench)
	@touch $@

# Not exported: what these stand on would be built so, too, if it is not there yet.
build/private/.built: WITH := SESSILE_PRIVATE_HOME=1
build/sanitized/.built: WITH := SESSILE_SANITIZE=address,undefined
build/threads/.built: WITH := SESSILE_SANITIZE=thread
build/symbols/.built: WITH := SESSILE_SYMBOLS=1
build/private/.built build/sanitized/.built build/symbols/.built build/threads/.built: $(BUILT) $(wildcard src/sessile/*.py src/sessile/*/*.py)
	rm -rf $(@D)
	$(WITH) $(RUN) setup.py -q build --build-base $(@D) --build-lib $(@D)/lib
	@touch $@

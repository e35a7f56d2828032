# make demo, make test, make lint: each makes .venv the first time, with nothing but Python 3.11-3.13,
# and installs exactly requirements.lock into it. The second time nothing is installed.
# make parity adds torch, transformers, peft and lm_eval: the tests then run against them.
# Other interpreter: make test PYTHON=/path/to/python3.12

# The first that starts and is of the right age (a pyenv shim may exist and not start).
PYTHON ?= $(firstword $(foreach p,python3.13 python3.12 python3.11 python3, \
	$(shell $(p) -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $(p))))
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
# The published version of uv that `make lock` was last run with.
UV := uv==0.13.9

.PHONY: demo real forgetting test parity lint format lock clean install

demo: install
	$(PY) -m bench.demo $(DEMO_ARGS)

real: install
	$(PY) -m bench.real $(REAL_ARGS)

# FORGETTING_ARGS=--quick takes minutes; the whole takes hours and goes on where it stopped.
forgetting: install
	$(PY) -m bench.forgetting $(FORGETTING_ARGS)

test: install
	PYTHONWARNDEFAULTENCODING=1 $(PY) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder tests

parity: .venv/.parity

lint: install
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: install
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

install: .venv/.installed

# --no-deps: the lock is complete, so pip need not resolve.
.venv/.installed: requirements.lock setup.py
	@if ! $(PY) -c '' 2>/dev/null; then \
		test -n "$(PYTHON)" || { echo "No Python 3.11-3.13 found: install one or name it, make PYTHON=..."; exit 2; }; \
		echo "Making .venv with $(PYTHON)"; \
		$(PYTHON) -m venv --clear .venv; \
	fi
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip
	@echo "Installing requirements.lock into .venv: 1 to 5 minutes, this once"
	@$(PIP) install --no-deps --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --use-pep517 -e .
	@touch $@

.venv/.parity: requirements-parity.txt .venv/.installed
	@echo "Installing requirements-parity.txt into .venv: torch, transformers, peft, lm_eval"
	@$(PIP) install -r requirements-parity.txt
	@touch $@

# The newest releases that setup.py allows, for every Python and platform, with their hashes.
lock:
	@test -n "$(PYTHON)" || { echo "No Python 3.11-3.13 found: install one or name it, make PYTHON=..."; exit 2; }
	@echo "Resolving setup.py with the test extra into requirements.lock"
	@tools=$$(mktemp -d) && trap 'rm -rf "$$tools"' EXIT && \
	$(PYTHON) -m venv "$$tools" && "$$tools/bin/pip" --disable-pip-version-check --quiet install $(UV) && \
	"$$tools/bin/uv" pip compile setup.py --extra test --quiet --upgrade --universal --fork-strategy requires-python \
		--python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock" \
		--output-file requirements.lock

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis runs
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

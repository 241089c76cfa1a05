# Every target installs what it needs into .venv; none needs root.
.DEFAULT_GOAL := help
export PYTHON

.PHONY: help
help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

.PHONY: venv
venv: ## mediasync in .venv
	@scripts/bootstrap.sh

.PHONY: venv-dev
venv-dev:
	@scripts/bootstrap.sh --dev

.PHONY: demo
demo: venv ## a container with pictures, a library, a sync between them, a watch and a clean-up
	@.venv/bin/python -m demo.run

.PHONY: demo-clean
demo-clean: ## removes what the demo made
	@rm -rf .demo

.PHONY: test
test: venv-dev ## all tests
	@scripts/system_packages.sh
	@.venv/bin/python -m pytest $(PYTEST_ARGS)

.PHONY: coverage
coverage: venv-dev ## all tests, and how much of our own code they run: fails below 90 %
	@scripts/system_packages.sh
	@rm -f .coverage .coverage.*
	@.venv/bin/python -m coverage run -m pytest $(PYTEST_ARGS)
	@.venv/bin/python -m coverage combine -q
	@.venv/bin/python -m coverage report --fail-under=90

SCHEDULES ?= 300
INTERLEAVINGS ?= 1000
.PHONY: test-faults
test-faults: venv-dev ## random faults, many more than in the tests: SCHEDULES=300 of syncs, INTERLEAVINGS=1000 of clean-ups
	@scripts/system_packages.sh
	@SCHEDULES=$(SCHEDULES) INTERLEAVINGS=$(INTERLEAVINGS) .venv/bin/python -m pytest tests/faults/schedules tests/faults/cleanup/test_interleavings.py $(PYTEST_ARGS)

.PHONY: lint
lint: venv-dev ## ruff, buf, and the agent's Python version
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/buf lint
	@.venv/bin/vermin --quiet --no-tips --violations -t=3.6- mediasync/sources/agent/program

.PHONY: types
types: venv-dev ## mypy, strict
	@.venv/bin/mypy

.PHONY: protos
protos: venv-dev ## writes mediasync/v1 from protos/
	@.venv/bin/python scripts/generate_protos.py

.PHONY: protos-check
protos-check: venv-dev ## fails if mediasync/v1 is not what protos/ gives
	@.venv/bin/python scripts/generate_protos.py --check

.PHONY: bench
bench: venv-dev ## ours against rsync, side by side, and what start-up costs
	@scripts/system_packages.sh
	@.venv/bin/python -m benchmarks.startup
	@.venv/bin/python -m benchmarks.transfer

.PHONY: pictures
pictures: venv ## docs/*.svg anew, from real commands in a terminal
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --group docs
	@.venv/bin/python scripts/record_svg.py

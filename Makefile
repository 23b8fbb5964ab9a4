# Everything that people and CI run. `make` alone lists the targets.
#
# Two environments, made on first use: `.venv` serves and has no PyTorch; `.venv-dev` trains, exports and tests.

PYTHON ?= python3
# The bundle that `make demo` and `make serve` use.
MODEL ?= deploy/models/en-de/1
# Installed first, so that pip does not choose a build for you: the default build for Linux brings gigabytes of CUDA.
# For the CPU build, point pip at PyTorch's CPU index (PIP_INDEX_URL or PIP_EXTRA_INDEX_URL).
TORCH ?= torch==2.13.0

SERVING := .venv/.installed
DEV := .venv-dev/.installed
PROTOS := protos/dragoman_protos/v1/translation.proto protos/dragoman_protos/admin/v1/admin.proto

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-slow lint type format protos image clean

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(SERVING)  ## start a server, translate with it, stop it
	@deploy/demo.sh .venv/bin $(MODEL)

serve: $(SERVING)  ## serve the bundled model (or MODEL=...) until Ctrl-C
	.venv/bin/dragoman serve $(MODEL)

setup: $(DEV)  ## install what development needs into .venv-dev

test: $(DEV)  ## all tests but the slow ones
	.venv-dev/bin/pytest -m "not slow" $(ARGS)

test-slow: $(DEV)  ## the slow tests: training, long runs under load
	.venv-dev/bin/pytest -m slow $(ARGS)

lint: $(DEV)  ## style, and which package may import which
	.venv-dev/bin/ruff check .
	.venv-dev/bin/ruff format --check .
	.venv-dev/bin/lint-imports --no-cache --no-logo

type: $(DEV)  ## static types
	.venv-dev/bin/mypy

format: $(DEV)  ## rewrite the code in the project's style
	.venv-dev/bin/ruff check --fix .
	.venv-dev/bin/ruff format .

protos: $(DEV)  ## generate the gRPC code anew
	.venv-dev/bin/python -m grpc_tools.protoc -I protos \
		--python_out=protos --pyi_out=protos --grpc_python_out=protos $(PROTOS)

image:  ## build the Docker image `dragoman`
	docker build --file deploy/docker/Dockerfile --tag dragoman .

clean:  ## remove the environments, caches and built packages
	rm -rf .venv .venv-dev dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(SERVING): pyproject.toml
	@echo "Installing what serving needs into .venv ..."
	@$(PYTHON) -m venv .venv
	@.venv/bin/pip install -qq --editable '.[cpu]'
	@touch $@

$(DEV): pyproject.toml
	@echo "Installing what development needs into .venv-dev ..."
	@$(PYTHON) -m venv .venv-dev
	@.venv-dev/bin/pip install -qq '$(TORCH)'
	@.venv-dev/bin/pip install -qq --editable '.[cpu,train,export,dev]'
	@touch $@

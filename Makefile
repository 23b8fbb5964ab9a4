# Everything that people and CI run. `make` alone lists the targets.
#
# Three environments, made on first use: `.venv` serves and has no PyTorch; `.venv-dev` trains, exports and tests;
# `.venv-clients` has clients of others for the tests. pip installs what requirements/*.lock name, in these versions and with
# these hashes, except PyTorch.

PYTHON ?= python3
# Processes that share the tests. Each test has up to four busy threads of its own.
WORKERS ?= 2
# The bundle that `make demo` and `make serve` use.
MODEL ?= deploy/models/en-de/1
# Not in the lock, because its builds differ by index: the default build for Linux brings gigabytes of CUDA. For the CPU build,
# point pip at PyTorch's CPU index (PIP_EXTRA_INDEX_URL). To have pip check a hash, name a file: TORCH='--require-hashes -r FILE'
TORCH ?= torch==2.13.0

SERVING := .venv/.installed
DEV := .venv-dev/.installed
CLIENTS := .venv-clients/.installed
LOCKED := pip install -qq --require-hashes
OWN := pip install -qq --no-deps --no-build-isolation --editable .
COMPILE = .venv-dev/bin/uv --config-file requirements/uv.toml pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-annotate --custom-compile-command "make lock" $(ARGS)
PROTOS = $(shell find protos/dragoman_protos -name '*.proto')
# Where googleapis-common-protos has its files. It gives one of them another name than the one under which it is imported.
SITE = $(shell .venv-dev/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
OPERATIONS = google/longrunning/operations.proto=$(SITE)/google/longrunning/operations_proto.proto

.DEFAULT_GOAL := help
.PHONY: help setup clients demo serve test test-slow lint type format protos pictures lock sbom image clean

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(SERVING)  ## start a server, translate with it, stop it
	@deploy/demo.sh .venv/bin $(MODEL)

serve: $(SERVING)  ## serve the bundled model (or MODEL=...) until Ctrl-C
	.venv/bin/dragoman serve $(MODEL)

setup: $(DEV)  ## install what development needs into .venv-dev

clients: $(CLIENTS)  ## install clients of others, for the tests, into .venv-clients

test: $(DEV) $(CLIENTS)  ## all tests but the slow ones
	.venv-dev/bin/pytest -m "not slow" -n $(WORKERS) --dist loadfile $(ARGS)

test-slow: $(DEV) $(CLIENTS)  ## the slow tests: training, long runs under load
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
	.venv-dev/bin/python -m grpc_tools.protoc -I protos -I $(OPERATIONS) -I $(SITE) \
		--python_out=protos --pyi_out=protos --grpc_python_out=protos $(PROTOS)

pictures: $(DEV)  ## take the pictures of the page in docs/pictures anew, with Chromium
	.venv-dev/bin/python tests/system/page_pictures.py docs/pictures

lock: $(DEV)  ## bring requirements/*.lock in line with pyproject.toml (ARGS=--upgrade: renew all versions)
	$(COMPILE) requirements/build.in --output-file requirements/build.lock
	$(COMPILE) pyproject.toml --extra cpu --extra http --output-file requirements/serve.lock
	$(COMPILE) pyproject.toml --extra gpu --extra http --output-file requirements/serve-gpu.lock
	$(COMPILE) pyproject.toml --extra cpu --extra http --extra train --extra export --extra hf --extra dev requirements/build.in \
		--no-emit-package torch --output-file requirements/dev.lock
	$(COMPILE) requirements/clients.in --output-file requirements/clients.lock

sbom: $(SERVING) $(DEV)  ## list what serves, .venv, in dist/sbom.json (CycloneDX)
	@mkdir -p dist
	.venv-dev/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml --mc-type application \
		--output-format JSON --output-file dist/sbom.json .venv/bin/python

image:  ## build the Docker image `dragoman`
	docker build --file deploy/docker/Dockerfile --tag dragoman .

clean:  ## remove the environments, caches and built packages
	rm -rf .venv .venv-dev .venv-clients dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# The build backend lies beside the environment that serves, not in it.
$(SERVING): pyproject.toml requirements/serve.lock requirements/build.lock
	@echo "Installing what serving needs into .venv ..."
	@$(PYTHON) -m venv --clear .venv
	@.venv/bin/$(LOCKED) -r requirements/serve.lock
	@.venv/bin/$(LOCKED) -r requirements/build.lock --target .venv/build
	@PYTHONPATH=.venv/build .venv/bin/$(OWN)
	@touch $@

$(DEV): pyproject.toml requirements/dev.lock
	@echo "Installing what development needs into .venv-dev ..."
	@$(PYTHON) -m venv .venv-dev
	@.venv-dev/bin/$(LOCKED) -r requirements/dev.lock
	@.venv-dev/bin/pip install -qq $(TORCH)
	@.venv-dev/bin/$(OWN)
	@touch $@

$(CLIENTS): requirements/clients.lock
	@echo "Installing clients of others into .venv-clients ..."
	@$(PYTHON) -m venv --clear .venv-clients
	@.venv-clients/bin/$(LOCKED) -r requirements/clients.lock
	@touch $@

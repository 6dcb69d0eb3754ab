# Run `make help` for a list of the targets.
PYTHON      ?= python3.11
# Versions of Beam (Python), Beam's Flink runner (Java) and Flink that are tested together.
BEAM_VERSION := 2.77.0
BEAM_JAVA_VERSION := 2.70.0
FLINK_VERSION := 1.19.3
# The newest that has its extension for Delta Lake on PyPI; for tests that read tables.
DUCKDB_VERSION := 1.5.5
# Partitions to score; empty selects the default of the target.
PARTITIONS  ?=
ARGS        ?=
CACHE       ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/scoreline
export CACHE
KAFKA_PORT  ?= 9092
PRISM       := $(CACHE)/prism-$(BEAM_VERSION)/prism
export PRISM

DUCKDB      := $(CACHE)/duckdb-$(DUCKDB_VERSION)
FLINK_LIBS  := $(CACHE)/flink-$(FLINK_VERSION)
# The jar of Beam's Flink runner: built here, or given by FLINK_JOB_SERVER_JAR=…
FLINK_JAR   := $(CACHE)/flink-runner-$(basename $(FLINK_VERSION))-$(BEAM_JAVA_VERSION).jar
FLINK_JOB_SERVER_JAR ?= $(FLINK_JAR)
# Size of the local cluster; empty keeps its size, or starts 1 TaskManager with 2 slots.
TASKMANAGERS ?=
SLOTS       ?=
# Test processes. Tests of engines mostly wait, so that 3 fill 2 cores. All tests on Flink run in
# one of them, so that its cluster is started once.
TEST_PROCESSES ?= 3
# Port or range of Flink's Prometheus reporter (on every interface); empty: no reporter.
PROMETHEUS_PORTS ?=

VENV        := .venv
BIN         := $(VENV)/bin
INSTALLED   := $(VENV)/.installed
FLINK       := $(BIN)/python -m deploy.local.flink_cluster
PYTEST      := $(BIN)/python -m pytest \
  $(if $(filter-out 1,$(TEST_PROCESSES)),-n $(TEST_PROCESSES) --dist loadgroup --no-loadscope-reorder)
export TF_CPP_MIN_LOG_LEVEL ?= 2

.DEFAULT_GOAL := help
.PHONY: help install constraints run-local check format test test-fast prism soak fuzz load-plants soak-stream delta-spark duckdb-delta \
        flink-up flink-scale flink-status flink-down run-flink flink-libs flink-jar flink \
        flink-autoscale run-stream load-test load-test-flink optimize kafka-up kafka-down score-nightly bench bench-quick \
        bench-formats bench-memory bench-rows bench-scaling bench-startup bench-flink bench-optimize bench-stream docs clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(INSTALLED) ## Create .venv with the exact versions of constraints.txt (uses uv, or venv and pip)

$(INSTALLED): constraints.txt
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --clear --python $(PYTHON) $(VENV) && \
	  uv pip install --quiet --python $(BIN)/python --no-deps -r constraints.txt; \
	else \
	  $(PYTHON) -m venv --clear $(VENV) && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r constraints.txt; \
	fi
	@touch $@

constraints: ## Resolve constraints.txt again from the ranges in setup.py (needs uv)
	uv pip compile --quiet --upgrade --no-header --python-version 3.11 --all-extras setup.py -o constraints.txt

run-local: install ## Prepare flights, train the demo model, score November and December (or PARTITIONS=…)
	@$(BIN)/python -m demo.run_local $(if $(PARTITIONS),--partitions $(PARTITIONS)) $(ARGS)

flink-up: install flink-libs ## Start a local Flink cluster: TASKMANAGERS=1 SLOTS=2 (needs Java)
	@$(FLINK) up $(if $(TASKMANAGERS),--task_managers $(TASKMANAGERS)) \
	  $(if $(SLOTS),--slots $(SLOTS)) \
	  $(if $(PROMETHEUS_PORTS),--prometheus_ports $(PROMETHEUS_PORTS))

flink-scale: install ## Add or remove TaskManagers: TASKMANAGERS=3, of SLOTS=2 each
	@$(FLINK) scale --task_managers $(or $(TASKMANAGERS),$(error expected a number of TaskManagers, as in TASKMANAGERS=3)) \
	  $(if $(SLOTS),--slots $(SLOTS))

flink-status: install ## Show the processes, ports and logs of the Flink cluster
	@$(FLINK) status

flink-down: install ## Stop the Flink cluster
	@$(FLINK) down

run-flink: flink-up $(FLINK_JOB_SERVER_JAR) ## Run the job of run-local on the Flink cluster (needs Java and Maven)
	@$(BIN)/python -m demo.run_local $$($(FLINK) arguments) \
	  --flink_job_server_jar=$(FLINK_JOB_SERVER_JAR) --output=build/scores-flink \
	  $(if $(PARTITIONS),--partitions $(PARTITIONS)) $(ARGS)

flink-autoscale: kafka-up flink-libs $(FLINK_JOB_SERVER_JAR) ## Show TaskManagers that come and go with the load, against fixed clusters (15 minutes; ARGS="--only days")
	@$(BIN)/python -m demo.run_autoscale --brokers 127.0.0.1:$(KAFKA_PORT) \
	  --flink_job_server_jar=$(FLINK_JOB_SERVER_JAR) $(ARGS)

check: install ## Check lint, format, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## Format the code and apply ruff's fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: install prism flink delta-spark duckdb-delta ## Run every test (Prism needs Go, Flink and Spark need Java and Maven)
	$(PYTEST) -m "not load" $(ARGS)

test-fast: install ## Run all tests but those of engines and those that kill whole commands
	$(PYTEST) -m "not (flink or kafka or load or prism or slow or spark)" $(ARGS)

prism: $(if $(shell command -v go 2>/dev/null),$(PRISM),no-go) ## Build Beam's Prism runner (needs Go)

$(PRISM):
	GOBIN=$(dir $(PRISM)) GOFLAGS=-mod=mod go install github.com/apache/beam/sdks/v2/go/cmd/prism@v$(BEAM_VERSION)

.PHONY: no-go
no-go:
	@echo "Go is not installed: tests on Prism are skipped, or fail if CI is set." >&2

flink: $(if $(and $(shell command -v java),$(shell command -v mvn)),flink-libs flink-jar,no-flink)

flink-libs: $(FLINK_LIBS)/pyflink ## Download Flink into the cache (235 MB)

$(FLINK_LIBS)/pyflink: | $(INSTALLED)
	@mkdir -p $(CACHE) && partial=$$(mktemp -d $(FLINK_LIBS).XXXXXX) && \
	if command -v uv >/dev/null 2>&1; then pip="uv pip install --python $(BIN)/python"; \
	else pip="$(BIN)/python -m pip install --disable-pip-version-check"; fi && \
	$$pip --quiet --no-deps --require-hashes --target $$partial \
	  -r deploy/local/flink-libraries.txt && \
	rm -rf $(FLINK_LIBS) && mv $$partial $(FLINK_LIBS)

flink-jar: $(FLINK_JAR) ## Build Beam's Flink runner into the cache (needs Maven)

$(FLINK_JAR): | $(INSTALLED)
	@$(BIN)/python -m deploy.local.job_server $@

# The test that needs the jars reports if Java or Maven is missing.
delta-spark: | $(INSTALLED) ## Download Delta Lake for Spark, which tests use, into the cache (13 MB; needs Maven)
	@if command -v mvn >/dev/null 2>&1; then $(BIN)/python -m deploy.local.delta_spark; fi

# The test that needs it reports if there is none for this machine.
duckdb-delta: | $(INSTALLED) ## Download DuckDB with its extension for Delta Lake, which tests use, into the cache (46 MB)
	@test -d $(DUCKDB) || { mkdir -p $(CACHE) && partial=$$(mktemp -d $(DUCKDB).XXXXXX) && \
	if command -v uv >/dev/null 2>&1; then pip="uv pip install --python $(BIN)/python"; \
	else pip="$(BIN)/python -m pip install --disable-pip-version-check"; fi && \
	if $$pip --quiet --no-deps --require-hashes --target $$partial -r deploy/local/duckdb-delta.txt; \
	then mv $$partial $(DUCKDB); else rm -rf $$partial; fi; }

.PHONY: no-flink
no-flink:
	@echo "Java or Maven is not installed: tests on Flink are skipped, or fail if CI is set." >&2

soak: install ## Kill a job 500 times, at each named step in turn, and check the table each time; call TensorFlow 10⁶ times within a memory bound (35 minutes)
	SCORELINE_KILLS=500 $(BIN)/python -m pytest tests/faults/test_kills.py -n auto -rP $(ARGS)
	SCORELINE_CALLS=1000000 $(BIN)/python -m pytest tests/models/capi/test_tensors.py -k memory -rP $(ARGS)

fuzz: install ## For SECONDS=3600, damage files of every format and feed odd columns to TensorFlow: none ends a job or changes rows in silence
	SCORELINE_FUZZ_SECONDS=$(or $(SECONDS),3600) $(BIN)/python -m pytest tests/fuzz $(ARGS)

load-plants: install prism flink ## Test the load of streams and batches with something planted, on a quiet machine (REPEATS=1, ARGS="-k skew")
	SCORELINE_PLANT_REPEATS=$(or $(REPEATS),1) $(BIN)/python -m pytest tests/load -m load -rP $(ARGS)

soak-stream: kafka-up ## Score streams and kill workers for SECONDS=1800; check that no record is lost and memory is flat
	@$(BIN)/python -m benchmarks.soak_stream --brokers 127.0.0.1:$(KAFKA_PORT) \
	  --seconds $(or $(SECONDS),1800) $(ARGS)

score-nightly: install ## Score the newest LAST=7 partitions that are not committed yet: ARGS="--input … --model …"
	$(BIN)/python -m scoreline batch --last $(or $(LAST),7) $(ARGS)

run-stream: kafka-up ## Score flights from one Kafka topic to another as they arrive (ARGS="--rate 2000")
	@$(BIN)/python -m demo.run_stream --brokers 127.0.0.1:$(KAFKA_PORT) $(ARGS)

load-test: kafka-up ## Find what load the demo holds, as a stream and as a batch (15 minutes; ARGS="--only batch")
	@$(BIN)/python -m demo.run_load_test --brokers 127.0.0.1:$(KAFKA_PORT) $(ARGS)

load-test-flink: kafka-up flink-up $(FLINK_JOB_SERVER_JAR) ## Find what load the stream holds on the Flink cluster with 1 and 2 slots (25 minutes)
	@$(BIN)/python -m demo.run_load_test --brokers 127.0.0.1:$(KAFKA_PORT) --only flink $(ARGS)

optimize: install ## Make cheaper variants of the demo's two models, and prove which are as good (10 minutes; ARGS="--only small")
	@$(BIN)/python -m demo.run_optimize $(ARGS)

kafka-up: install ## Start a local Kafka broker on port 9092 or KAFKA_PORT (needs Java and Maven)
	@$(BIN)/python -m deploy.local.kafka_broker up --port $(KAFKA_PORT)

kafka-down: install ## Stop the Kafka broker; its data stays in build/kafka
	@$(BIN)/python -m deploy.local.kafka_broker down

bench: install ## Measure batch against a bare loop and other libraries, 5 M rows (1 hour)
	$(BIN)/python -m benchmarks.batch --rows 5000000

bench-quick: install ## Run the same benchmark on 500,000 rows
	$(BIN)/python -m benchmarks.batch --rows 500000

bench-flink: install flink-libs flink-jar ## Measure Flink against the local runner, 5 M rows (90 minutes)
	$(BIN)/python -m benchmarks.flink --rows 5000000

bench-formats: install ## Measure the same model in every format (20 minutes)
	$(BIN)/python -m benchmarks.formats

bench-optimize: install ## Measure jobs with optimized variants beside a bare loop (30 minutes)
	$(BIN)/python -m benchmarks.optimize

bench-rows: install ## Measure a row in ScoreRows, RunInference and BatchElements (10 minutes)
	$(BIN)/python -m benchmarks.rows

bench-memory: install ## Measure memory with huge row groups and with 10,000 tiny files (15 minutes)
	$(BIN)/python -m benchmarks.memory

bench-startup: install ## Measure the CPU seconds of help, option errors, table status and --check
	$(BIN)/python -m benchmarks.startup

bench-scaling: install ## Measure the cost of 100,000 files and 10,000 partitions
	$(BIN)/python -m benchmarks.scaling $(ARGS)

bench-stream: kafka-up prism flink-libs flink-jar ## Measure latency and throughput of streams against a bare loop (3 hours)
	$(BIN)/python -m benchmarks.stream --brokers 127.0.0.1:$(KAFKA_PORT) $(ARGS)

docs: build/docs-venv/.installed ## Build the documentation as a site in build/site; a dead link fails the build
	@mkdir -p build/pages
	@ln -sfn $(addprefix ../../,README.md CHANGELOG.md CONTRIBUTING.md docs deploy) build/pages
	@NO_MKDOCS_2_WARNING=1 build/docs-venv/bin/mkdocs build --strict --clean
	@! grep -rlE 'src="https?:|<link [^>]*href="https?:' build/site --include='*.html'  # fetches nothing
	@echo "build/site/index.html"

build/docs-venv/.installed: docs/requirements.txt
	$(PYTHON) -m venv --clear build/docs-venv
	build/docs-venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r docs/requirements.txt
	@touch $@

clean: ## Stop the Flink cluster, and remove build/ (data, models, scores)
	@if [ -d build/flink/run ]; then $(FLINK) down; fi
	rm -rf build

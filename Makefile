# Everything a user does goes through here; `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3.11
# Where torch's CPU build comes from on a machine without an NVIDIA GPU; empty: from the ordinary index.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
SCALE ?= tiny
STAGE ?=
FROM ?=
SET ?=
DEPLOYMENT ?= full-training/prod
ARGS ?=
TO ?=
WHY ?=
SYSTEMS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
GPU = $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | head -n 1)
CPU_INDEX = $(if $(GPU),,$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)))

export PATH := $(CURDIR)/$(BIN):$(PATH)
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.PHONY: help install preflight run test chaos check arena up down ui status deploy reproduce rollback push pull remote clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/\1\t\2/' | awk -F'\t' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo
	@echo "  SCALE=smoke|tiny|small|report (tiny), STAGE=sft, FROM=sft, SET='sft.steps=200 seed=1',"
	@echo "  PYTHON=python3.11, TORCH_INDEX=URL, QI2_PREFECT_PORT=4200, QI2_MLFLOW_PORT=5000"

ifndef SETUP_ALONE
# Two makes at the same time set .venv up one after the other: the second waits, and then finds the stamp.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) flows/preflight.py $(if $(filter run up deploy,$(MAKECMDGOALS)),,--setup)
	@$(PYTHON) flows/alone.py $(VENV)/.lock "another make, which sets up $(VENV)" $(MAKE) --no-print-directory SETUP_ALONE=1 $@
else
$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install $(CPU_INDEX) 'torch==2.13.0'
	$(PIP) install -c requirements.lock -e '.[line,dev]'
	@test -e .git || printf '[core]\n    no_scm = true\n' > .dvc/config.local
	@touch $@
endif

install: $(STAMP) ## set up the virtual environment in .venv

preflight: ## check ports, disk, memory and system packages
	@$(PYTHON) flows/preflight.py && echo "nothing stands in the way"

run: $(STAMP) ## train the whole line at SCALE and follow it (FROM=stage forces a stage and what follows)
	@$(BIN)/python -m flows.run --deployment $(DEPLOYMENT) --scale $(SCALE) $(if $(FROM),--from-stage $(FROM)) $(if $(SET),--set $(SET))

test: $(STAMP) ## run the tests
	@$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile $(ARGS)

chaos: $(STAMP) ## kill the smoke line CHAOS_KILLS=50 times and compare its bytes with those of an undisturbed one
	@$(BIN)/python -m tests.faults.chaos

check: $(STAMP) ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

arena: $(STAMP) ## vote blind between the models of SCALE in a browser (SYSTEMS='other=FOLDER', ARGS='--host 0.0.0.0' for phones)
	@test -f runs/$(SCALE)/evaluate/results.json || { echo "nothing to compare yet: make run SCALE=$(SCALE)"; exit 2; }
	@$(BIN)/qi2 arena serve runs/$(SCALE)/evaluate $(wildcard .qi2/nightly/$(SCALE)/champion .qi2/nightly/$(SCALE)/challenger) $(SYSTEMS) \
		--votes votes/$(SCALE).sqlite $(ARGS)

up: $(STAMP) ## start Prefect server, MLflow server and worker
	@$(BIN)/python -m flows.stack up && $(BIN)/python -m flows.stack status

down: ## stop them
	@test ! -x $(BIN)/python || $(BIN)/python -m flows.stack down

ui: $(STAMP) ## show both addresses, and open them on a desktop
	@$(BIN)/python -m flows.stack ui

status: $(STAMP) ## what runs, and which results are out of date and why
	@$(BIN)/python -m flows.stack status
	@$(BIN)/python -m flows.dag $(SCALE)

deploy: up ## register the deployments with Prefect
	@$(BIN)/python -m flows.deploy

reproduce: $(STAMP) ## bring one STAGE and all it needs up to date with DVC alone, no servers
	@test -n "$(STAGE)" || { echo "say which stage: make reproduce STAGE=sft SCALE=$(SCALE)"; exit 2; }
	@$(BIN)/python -m flows.dvc repro $(STAGE)@$(SCALE)

rollback: $(STAMP) ## make the champion before champion again: make rollback WHY='...' (TO=version)
	@$(BIN)/python -m tasks rollback --scale $(SCALE)
rollback: export QI2_TO := $(TO)
rollback: export QI2_WHY := $(WHY)

remote: $(STAMP) ## keep data and models elsewhere: make remote URL=s3://bucket/qi2
	@test -n "$(URL)" || { echo "say where: make remote URL=s3://bucket/qi2"; exit 2; }
	@$(BIN)/python -m flows.dvc remote add --local --force local $(URL)

push: $(STAMP) ## copy results to the DVC remote
	@$(BIN)/python -m flows.dvc push

pull: $(STAMP) ## fetch results that dvc.lock names from the DVC remote
	@$(BIN)/python -m flows.dvc pull

clean: down ## delete results, databases and caches, after asking
	@read -r -p "Delete runs/, .qi2/, .dvc/cache and dvc.lock (all results and models)? Type yes: " answer; \
	test "$$answer" = yes || { echo "nothing deleted"; exit 1; }
	@rm -rf runs .qi2 .dvc/cache .dvc/tmp dvc.lock conf/resolved conf/local && echo "deleted"

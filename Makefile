# Thin on purpose: the driver is `python -m toolchain`; see `make help`.
PYTHON ?= python3
STACK ?= ambassadors
DRIVER := $(PYTHON) toolchain/bootstrap.py

.PHONY: up preview refresh destroy outputs render lint bench test test-unit test-live env pr-preview trace doctor help

up preview refresh outputs:
	@$(DRIVER) $@ --stack "$(STACK)"

# Everything, unless STACK is given.
destroy:
	@$(DRIVER) destroy $(if $(filter file,$(origin STACK)),,--stack "$(STACK)")

render:
	@$(DRIVER) render --stack "$(STACK)"

lint env doctor:
	@$(DRIVER) $@

pr-preview:
	@$(DRIVER) pr-preview --base "$(BASE)"

# The way of one event through a composition's pipeline.
trace:
	@$(DRIVER) trace --id "$(ID)" $(if $(filter file,$(origin STACK)),,--stack "$(STACK)")

bench:
	@$(DRIVER) run python -m bench

test:
	@$(DRIVER) checks all

test-unit:
	@$(DRIVER) checks unit

test-live:
	@$(DRIVER) checks live

help:
	@$(DRIVER) --help

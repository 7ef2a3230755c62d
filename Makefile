# The two commands of the README are `make demo` and `make test`; each sets up what it needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?=
bin := .venv/bin
demo_data := .cache/photographs

.PHONY: help setup demo test test-faults test-slow test-large test-peers test-toolkit test-matrix setup-toolkit check lint types layers bench gallery notebook docs soak lock clean

help: ## these lines
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1|\2/' | column -t -s '|'

setup: ## make .venv: hashed requirements, Horovod built once, this package
	@PYTHON="$(PYTHON)" requirements/install.sh

demo: setup ## train ResNet50 on an emulated heterogeneous cluster of three hosts; needs no AWS
	@$(bin)/python recipes/resnet50_imagenet/prepare.py --output $(demo_data) --images 768 --image-size 160
	@PATH="$(CURDIR)/$(bin):$$PATH" $(bin)/hetero-tfdata emulate \
	  --group data_group=ml.c5.18xlarge:2 --group dnn_group=ml.p4d.24xlarge:1 \
	  --distribution dnn_group --processes-per-host 2 --isolation process --timeout-s 900 --output out/demo \
	  --channel train=$(demo_data)/train --channel validation=$(demo_data)/validation \
	  -p epochs=3 -p steps-per-epoch=12 -p batch-size=16 -p image-size=64 -p learning-rate=0.005 -p warmup-epochs=1 \
	  --source-dir recipes/resnet50_imagenet launcher.py

test: setup ## the tests, two at a time
	@$(bin)/python -m pytest -n 2 --dist loadgroup

test-faults: setup ## what becomes of a job whose servers are killed or stand still: every cell of the README's table
	@$(bin)/python -m pytest -m faults

test-slow: setup ## jobs of half a minute each, of the kinds that `make test` has one of
	@$(bin)/python -m pytest -m slow

test-large: setup ## a cluster of 16 emulated hosts: start, register, serve, end
	@$(bin)/python -m pytest -m large

test-peers: setup ## plain tf.data service beside distribute(): what it falls into, and a million rows exactly once
	@$(bin)/python -m pytest -m peers

setup-toolkit: setup ## what test-toolkit needs under .cache/toolkit: sagemaker-training 5 with a Horovod for MPI, and 4.9
	@requirements/toolkit/install.sh

test-toolkit: setup-toolkit ## emulate --toolkit with mpirun and sshd, sagemaker-training 5 and 4.9; as root, needs Open MPI
	@.cache/toolkit/5/bin/python -m pytest -m toolkit tests/toolkit
	@.cache/toolkit/4.9/bin/python -m pytest -m "toolkit or not toolkit" tests/toolkit tests/cluster/test_toolkit.py

test-matrix: setup ## the tests with the built wheel on TensorFlow 2.12, 2.15 and the newest, each in an environment of its own
	@$(bin)/python tests/matrix.py

check: lint types layers test ## lint, types, layers, tests

lint: setup
	@$(bin)/ruff check . && $(bin)/ruff format --check .

types: setup
	@$(bin)/mypy

layers: setup
	@$(bin)/lint-imports --no-cache

bench: bench-counter bench-cache bench-wire bench-local_workers bench-cluster bench-plan bench-faults bench-augment bench-augment_training ## all benchmarks; make bench-NAME runs one of benchmarks/NAME.py

bench-%: setup
	@$(bin)/python benchmarks/$*.py

gallery: setup ## draw every augmentation at three strengths: benchmarks/gallery.png
	@$(bin)/python benchmarks/gallery.py

notebook: setup ## run recipes/walkthrough.ipynb from top to bottom; its outputs are kept in it
	@$(bin)/python docs/run_notebook.py

docs: setup ## write docs/api.md from the docstrings
	@$(bin)/python docs/make_api.py

soak: setup ## half an hour of faults on an emulated cluster: nothing hangs, comes twice or grows
	@$(bin)/python benchmarks/soak.py

lock: setup ## write requirements/dev.txt, toolkit/*.txt and matrix/*.txt anew from their .in
	@cd requirements && ../$(bin)/uv pip compile dev.in --override overrides.txt --universal --python-version 3.10 \
	  --generate-hashes --no-emit-package horovod --no-header -q -o dev.txt
	@cd requirements/matrix && for one in tf2.12:3.10 newest:3.12; do ../../$(bin)/uv pip compile $${one%:*}.in \
	  --python-version $${one#*:} --generate-hashes --no-emit-package horovod --no-header -q -o $${one%:*}.txt; done
	@cd requirements/toolkit && for name in 5 4.9; do ../../$(bin)/uv pip compile $$name.in --universal --python-version 3.10 \
	  --generate-hashes --no-header -q -o $$name.txt; done

clean: ## remove what make made here (the built Horovod stays in the user's cache)
	@rm -rf .venv .cache out build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

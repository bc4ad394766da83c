# The front door for people and CI. Each recipe is one line; the work is in scripts/ and in tvmbuild itself.
PYTHON ?= python3
RUN := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-unit lint format models bench-kernels bench-intake bench-tune bench-tune-rate bench-busy bench-truth release fuzz attack mutants lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## create .venv, install the pinned packages and, as root, the system packages
	@$(PYTHON) scripts/bootstrap.py

demo: setup ## build a real model for rpi4, run it on an emulated board, compare it with ONNX Runtime
	@$(RUN) scripts/demo.py

test: setup models ## all tests: unit, then integration (compile, link, run on the emulated board)
	@$(RUN) -m pytest -n 2 --dist worksteal tests/unit && $(RUN) -m pytest tests/integration

test-unit: setup ## unit tests only: no compilation, seconds
	@$(RUN) -m pytest -n 2 --dist worksteal tests/unit

lint: setup ## ruff, mypy, the import rules, clang-tidy, and the form of C++, shell and TOML
	@$(RUN) scripts/lint.py

format: setup ## format the code in place
	@$(RUN) -m ruff format . && $(RUN) -m ruff check --fix . && .venv/bin/clang-format -i $$(git ls-files '*.c' '*.cc' '*.h')

models: setup ## fetch the real models and pictures that demo and tests use into build/
	@$(RUN) -m devtools.zoo

bench-kernels: setup ## measure the kernels and write docs/performance.md: minutes
	@$(RUN) benchmarks/kernels.py

bench-intake: setup ## time the preparing of large models and the check of indices and write docs/models.md: 3 minutes
	@$(RUN) benchmarks/intake.py

bench-tune: setup models ## tune two models for this machine and write the tables of docs/tuning.md: 45 minutes
	@$(RUN) benchmarks/tune.py

bench-tune-rate: setup ## count trials a minute on 1 to 16 boards and write docs/tuning.md: 4 minutes
	@$(RUN) benchmarks/tune_rate.py

bench-busy: setup ## time models alone and beside busy processes and write docs/performance.md: 3 minutes
	@$(RUN) benchmarks/busy.py

bench-truth: setup ## compare predictions with published times of real boards and write tables of docs/predict.md: 40 minutes
	@$(RUN) -m benchmarks.truth --page

release: setup models ## build, verify, bundle and (with TVMBUILD_KEY) sign the models of examples/release
	@$(RUN) -m tvmbuild release --project examples/release --explain

fuzz: setup ## fuzz the board's readers of .npy, bundle.conf and SHA256SUMS; needs clang with libFuzzer
	@$(RUN) scripts/fuzz.py

attack: setup ## attack all that reads what others wrote and write docs/security.md: at most 15 minutes
	@$(RUN) -m attacks

mutants: setup ## count small changes of the code that no unit test notices and write docs/testing.md: 20 minutes
	@$(RUN) -m uv pip install --quiet --python $(RUN) --group mutants && $(RUN) -m devtools.mutants

lock: setup ## resolve pyproject.toml into requirements.lock with hashes
	@$(RUN) -m uv pip compile --quiet --universal --generate-hashes --python-version 3.10 --group dev --custom-compile-command "make lock" -o requirements.lock pyproject.toml

clean: ## remove what the build wrote (not .venv)
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

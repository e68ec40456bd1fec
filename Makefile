# Every target sets up what it needs in .venv by itself; PYTHON=/path/to/python chooses the interpreter it is made from.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# A change of any of these installs again: an editable install alone would leave edited C++ silently stale.
SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(shell find native -type f)

# The build requirements come first and isolation is off: CMake remembers where it found them, and an isolated
# environment is gone after the build.
BUILD_REQUIREMENTS := scikit-build-core nanobind cmake ninja

PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help install demo test unit native-test fuzz check format constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP) ## train, compress, certify, serve and measure in one go, on synthetic data
	$(BIN)/rankine demo

test: $(STAMP) ## the whole test suite
	$(BIN)/python -m pytest

unit: $(STAMP) ## the unit tests only: a few minutes
	$(BIN)/python -m pytest tests/unit

# Both build outside of .venv, with sanitizers, and only what has changed.
CMAKE := $(BIN)/cmake -G Ninja -S . -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja "-DRANKINE_SANITIZE=address;undefined"

native-test: $(STAMP) ## the tests of the C++ code, with AddressSanitizer and UndefinedBehaviorSanitizer
	$(CMAKE) -B build/native-tests -DRANKINE_TESTS=ON > /dev/null
	$(BIN)/cmake --build build/native-tests
	build/native-tests/native/tests/native_tests

FUZZ_SECONDS ?= 60

fuzz: $(STAMP) ## libFuzzer on the native engine's loader, for FUZZ_SECONDS (60); needs clang
	@command -v clang++ >/dev/null \
	  || { echo "error: no clang++. On Debian or Ubuntu: apt-get install clang libclang-rt-dev" >&2; exit 1; }
	CXX=clang++ $(CMAKE) -B build/fuzz -DRANKINE_FUZZ=ON > /dev/null
	$(BIN)/cmake --build build/fuzz --target fuzz_program write_seeds
	mkdir -p build/fuzz/seeds build/fuzz/corpus
	build/fuzz/native/tests/write_seeds build/fuzz/seeds
	build/fuzz/native/tests/fuzz_program -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -timeout=20 -verbosity=0 \
	  -print_final_stats=1 -artifact_prefix=build/fuzz/ build/fuzz/corpus build/fuzz/seeds

check: $(STAMP) ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## format the code and fix what can be fixed
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

install: $(STAMP) ## only set up .venv

constraints: $(STAMP) ## write constraints.txt anew from what .venv holds
	.ci/freeze $(BIN)/python > constraints.new && mv constraints.new constraints.txt

clean: ## remove .venv and all build output
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v "$(PYTHON)" >/dev/null \
	  || { echo "error: '$(PYTHON)' is not found. Install Python 3.11 or later, or run: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: Rankine needs Python 3.11 or later, '$(PYTHON)' is $$("$(PYTHON)" --version). Run: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' \
	  || { echo "error: '$(PYTHON)' cannot make virtual environments. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)

$(STAMP): $(SOURCES) | $(BIN)/python
	@command -v "$${CXX:-c++}" >/dev/null \
	  || { echo "error: no C++ compiler ('$${CXX:-c++}'). On Debian or Ubuntu: apt-get install g++" >&2; exit 1; }
	@echo "Setting up $(VENV): about 2 GB and a few minutes the first time, seconds after an edit of native code"
	$(PIP) install --quiet -c constraints.txt $(BUILD_REQUIREMENTS)
	$(PIP) install --quiet --no-build-isolation -c constraints.txt -e ".[all,dev]"
	@$(PIP) install --quiet --no-deps -c constraints.txt nvidia-pytriton \
	  || echo "no binary of Triton server for this system: its tests are skipped, and fail in CI"
	@touch $@

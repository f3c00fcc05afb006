# unsee. `make` alone lists what there is.
#
# libtorch comes from the `torch` wheel into a cache folder that all clones share:
#   $(UNSEE_CACHE), else $XDG_CACHE_HOME/unsee, else ~/.cache/unsee
# An own libtorch $(TORCH) is taken from LIBTORCH.

SHELL := /bin/bash
TORCH := 2.11.0
CACHE := $(or $(UNSEE_CACHE),$(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/unsee)
KIND := $(if $(CUDA),cuda,cpu)
LIB := $(CACHE)/libtorch-$(TORCH)-$(KIND)
# What libtorch_cpu.so of the CUDA wheel needs beside the system; with CUDA=1 pip resolves everything.
SMALL := nvidia-cuda-cupti==13.0.85 nvidia-cuda-runtime==13.0.96
PYTHON := python3
# Times a part of the tests.
PART = @start=$$(date +%s); echo "== $(1)"; $(2) </dev/null || exit 1; \
	echo "== $(1): $$(( $$(date +%s) - start )) s"

.PHONY: help setup build demo test bench parity fuzz clean

help:
	@echo "make demo     set libtorch up, build, and erase a style from the miniature"
	@echo "make test     formatting, lints, unit, golden, command-line and README tests"
	@echo "make build    set libtorch up and build target/release/unsee"
	@echo "make bench    compare with Python diffusers, into benches/RESULTS.md"
	@echo "make parity   compare full-size models with Python diffusers (40 minutes on two cores, 20 GB of disk)"
	@echo "make fuzz     let the fuzz targets run for FUZZ=600 seconds each (nightly Rust and cargo-fuzz)"
	@echo "make setup    set libtorch up (CUDA=1 for a machine with a GPU; LIBTORCH=... for an own one)"
	@echo "make clean    remove what was built here; the shared libtorch in $(CACHE) stays"

ifdef LIBTORCH
setup:
	@test -e "$(LIBTORCH)/include/torch" || { echo "LIBTORCH=$(LIBTORCH) has no include/torch; it must be the folder with lib and include of libtorch $(TORCH)" >&2; exit 1; }
	@ln -sfn "$(LIBTORCH)" .libtorch
else
setup: $(LIB)/torch/version.py
	@[ "$$(readlink .libtorch)" = "$(LIB)/torch" ] || ln -sfn "$(LIB)/torch" .libtorch
endif

# Whole or not at all: pip writes beside, then the folder is renamed.
$(LIB)/torch/version.py:
	@case "$$(uname -sm)" in "Linux x86_64") ;; *) echo "unsee is set up on Linux x86-64 so far, this is $$(uname -sm); elsewhere give your own libtorch $(TORCH) in LIBTORCH" >&2; exit 1 ;; esac
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || { echo "Python 3 with pip is needed to fetch libtorch; install them, or give your own libtorch $(TORCH) in LIBTORCH" >&2; exit 1; }
	@mkdir -p "$(CACHE)"
	@echo "fetching libtorch $(TORCH) ($(KIND)) into $(LIB)"
	@half=$$(mktemp -d "$(CACHE)/.half-XXXXXX") && trap 'rm -rf "$$half"' EXIT && \
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$$half" \
		$(if $(CUDA),torch==$(TORCH),--no-deps torch==$(TORCH) $(SMALL)) && \
	{ [ -n "$(CUDA)" ] || rm -f "$$half"/torch/lib/libtorch_cuda*.so; } && \
	rm -rf "$(LIB)" && mv "$$half" "$(LIB)"

build: setup
	cargo build --release

demo: build
	./target/release/unsee demo

test: setup
	$(call PART,formatting,cargo fmt --check)
	$(call PART,lints,cargo clippy --release --all-targets --quiet -- -D warnings)
	$(call PART,building the tests,cargo test --release --no-run --quiet)
	$(call PART,unit tests,cargo test --release --quiet --lib)
	$(call PART,networks and samplers against diffusers,cargo test --release --quiet --test networks)
	$(call PART,StyleGAN2 against rosinality's,cargo test --release --quiet --test stylegan2)
	$(call PART,tokenizer against transformers,cargo test --release --quiet --test tokenizer)
	$(call PART,weights in and out,cargo test --release --quiet --test exchange)
	$(call PART,files from strangers,cargo test --release --quiet --test hostile)
	$(call PART,GANs from strangers,cargo test --release --quiet --test hostile_gans)
	$(call PART,Inception-v3 and FID against pytorch-fid,cargo test --release --quiet --test inception)
	$(call PART,the hub,cargo test --release --quiet --test hub)
	$(call PART,seeds of the fuzz targets,cargo test --release --quiet --test fuzzing)
	$(call PART,architecture,cargo test --release --quiet --test architecture)
	$(call PART,structure,cargo test --release --quiet --test structure)
	$(call PART,fields of configurations against diffusers and transformers,cargo test --release --quiet --test fields)
	$(call PART,nothing wrong in silence,cargo test --release --quiet --test silence)
	$(call PART,the same pictures as Python diffusers (where it is installed),cargo test --release --quiet --test diffusers -- --nocapture)
	$(call PART,short runs against what they were,cargo test --release --quiet --test golden_runs)
	$(call PART,command line and faults,cargo test --release --quiet --test commands)
	$(call PART,README,cargo test --release --quiet --test readme)

bench: build
	benches/bench.sh
	cargo build --release --example gan_speed
	UNSEE_PYTHON=$(or $(UNSEE_PYTHON),.venv/bin/python) benches/gan.sh

# A Python of its own, with what is compared against; UNSEE_PYTHON names another one.
.venv/bin/python:
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet torch==$(TORCH) diffusers==0.42.1 transformers==5.23.0 safetensors==0.8.0

parity: build $(if $(UNSEE_PYTHON),,.venv/bin/python)
	@set -e; for model in sd15 sd21; do \
		echo "== $$model: Python's side"; \
		$(or $(UNSEE_PYTHON),.venv/bin/python) tests/golden/parity.py $$model target/parity/$$model; \
		echo "== $$model: this side"; \
		UNSEE_PARITY=$(CURDIR)/target/parity/$$model cargo test --release --quiet --test parity -- --nocapture; \
		rm -r target/parity/$$model; \
	done

FUZZ := 600
fuzz: setup
	@set -e; for target in weights pickle index names text; do \
		mkdir -p fuzz/corpus/$$target; \
		LD_LIBRARY_PATH=$(CURDIR)/.libtorch/lib cargo +nightly fuzz run --sanitizer none $$target \
			fuzz/corpus/$$target fuzz/seeds/$$target -- -max_total_time=$(FUZZ) -rss_limit_mb=2048 -timeout=5; \
	done

clean:
	cargo clean
	rm -rf .libtorch .venv

# Culvert. `make help` lists the targets; V=1 shows every command; nothing is written outside build/, node_modules/ and the cache
# (BUILD_CACHE, by default ~/.cache/culvert, where compiled things are kept by the content they were made of).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# Node 24 of the npm package `node` comes first for everything but npm itself (scripts/deps.sh takes it out again): the
# distribution's Node may be too old for our code and only runs npm.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH):/usr/sbin:/sbin
export BUILD_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/culvert
export V

Q := $(if $(V),,@)
say = @printf '  %-8s %s\n' '$(1)' '$(2)'

jobs := $(shell nproc)
build_all = $(MAKE) -j$(jobs) build/culvert build/culvert-cni

CLANG ?= clang
BPFTOOL ?= bpftool
CLANG_FORMAT ?= clang-format
# C and C++ are laid out by this one's major version (Debian 12's); others differ in a few places and are neither asked nor let loose.
clang_format_major := 14
with_clang_format = case $$($(CLANG_FORMAT) --version) in *'version $(clang_format_major).'*) $(CLANG_FORMAT) $(1) $(c_formatted) ;; \
	*) echo "  FMT      no clang-format $(clang_format_major) here: C and C++ left as they are" ;; esac
# The directory of the architecture's own headers (asm/types.h): clang's bpf target does not search it.
arch_include := /usr/include/$(shell uname -m)-linux-gnu
# Verifier-friendly and portable: v3 has 32-bit jumps, which clang 14 and kernel 5.15 both know.
BPF_CFLAGS := -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Werror -I bpf -isystem $(arch_include)

bpf_sources := $(wildcard bpf/*.bpf.c)
bpf_parts := $(bpf_sources:bpf/%.bpf.c=build/bpf/parts/%.bpf.o)
# Everything the bundler may read; the two executables are made again when one of them changed.
ts_sources := $(shell find src -name '*.ts' -o -name '*.js' 2>/dev/null)
c_formatted := $(wildcard bpf/*.c bpf/*/*.c bpf/*/*.h addon/src/*.cc addon/src/*.h)

.PHONY: all build help deps machine bpf addon gen gen-check test test-unit test-bpf test-netns test-cluster test-ztunnel test-geneve tools demo bench lint fmt fmt-check typecheck \
	presubmit clean FORCE
.DEFAULT_GOAL := build

all: build
build: deps ## build/culvert and build/culvert-cni, after installing what is missing (the default goal)
	@$(build_all)

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r target text; do printf '  %-12s %s\n' "$$target" "$$text"; done
	@echo '  V=1 shows the commands.'

deps: ## install what the build needs and this machine lacks (apt, npm)
	@scripts/deps.sh build

machine:
	@scripts/machine.sh

# ---- programs -------------------------------------------------------------------------------------------------------------------

bpf: build/bpf/culvert.bpf.o ## the eBPF object, build/bpf/culvert.bpf.o

build/bpf/culvert.bpf.o: $(bpf_parts)
	$(call say,BPFLINK,$@)
	$(Q)$(BPFTOOL) gen object $@ $^

build/bpf/parts/%.bpf.o: bpf/%.bpf.c Makefile
	$(call say,BPF,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(BPF_CFLAGS) -MMD -MP -c -o $@ $<

-include $(bpf_parts:.o=.d)

addon: build/addon/culvert.node ## the native addon, build/addon/culvert.node

# Asked every time (its own Makefile and the cache know what changed); untouched when nothing did, so nothing after it is made again.
build/addon/culvert.node: FORCE
	@scripts/cached.sh build/addon/culvert.node addon node_modules/node-addon-api/package.json /usr/include/bpf/libbpf_version.h -- $(MAKE) -C addon $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(jobs))

build/culvert: build/bpf/culvert.bpf.o build/addon/culvert.node
build/culvert build/culvert-cni: build/%: $(ts_sources) scripts/bundle.ts package.json package-lock.json
	@node scripts/bundle.ts $* $(if $(V),--verbose)
	$(call say,SEA,$@)

# ---- generated code -------------------------------------------------------------------------------------------------------------

gen: build/bpf/culvert.bpf.o ## regenerate src/proto/*_pb.* and the map layouts
	$(call say,GEN,src/proto)
	$(Q)buf generate
	$(call say,GEN,src/maps)
	$(Q)node scripts/layout.ts

gen-check: build/bpf/culvert.bpf.o ## fail when generated code does not match its sources
	$(Q)scripts/gen-check.sh

# ---- tests ----------------------------------------------------------------------------------------------------------------------

test: ## everything: install, build, lint, checks, then the rings unit, bpf, netns and cluster; the last line is `N passed, N failed`
	@scripts/test.sh

test-unit: deps ## the unit ring only (no root)
	@node scripts/test/main.ts unit

test-bpf: machine ## the bpf ring only: programs under PROG_TEST_RUN, map layouts
	@scripts/deps.sh build
	@$(MAKE) -j$(jobs) bpf addon
	@node scripts/test/main.ts bpf

test-netns: machine ## the netns ring only: real namespaces, agents and tunnels
	@scripts/deps.sh build run
	@$(build_all)
	@node scripts/test/main.ts netns

test-cluster: machine ## the cluster ring only: against a real API server, and on real nodes
	@scripts/deps.sh build run cluster
	@$(build_all)
	@node scripts/test/main.ts cluster

test-ztunnel: machine ## an unmodified Istio ztunnel, named by CULVERT_TEST_ZTUNNEL, behind our redirect (not part of test)
	@scripts/deps.sh build run
	@scripts/machine.sh features
	@$(MAKE) -j$(jobs) bpf addon
	@node scripts/test/main.ts ztunnel

test-geneve: addon ## the benchmark's node-level baseline on Debian's kernel, which has Geneve, in an emulated machine (not part of test)
	@test/kernels/geneve.sh

tools: ## build/test/: Kubernetes, containerd, CoreDNS, Helm and CNI plugins for the cluster ring (ten minutes, once)
	@scripts/tools.sh

demo: machine ## a two-node mesh on this machine, proven step by step and taken down again
	@scripts/deps.sh build run
	@scripts/machine.sh features
	@$(build_all)
	@build/culvert lab demo

bench: machine ## the redirects measured against each other, some 15 minutes; BENCH='--quick' or other flags
	@scripts/deps.sh build run
	@scripts/machine.sh features
	@$(build_all)
	@build/culvert bench $(BENCH)

# ---- checks ---------------------------------------------------------------------------------------------------------------------

lint: ## eslint, one-way dependencies, unused code, shell syntax
	$(call say,LINT,eslint)
	$(Q)eslint --max-warnings 0 .
	$(call say,LINT,dependency-cruiser)
	$(Q)depcruise --config .dependency-cruiser.cjs --output-type err src
	$(call say,LINT,knip)
	$(Q)knip --no-progress
	$(Q)for script in scripts/*.sh deploy/*.sh test/kernels/*.sh .ci/run; do bash -n "$$script"; done

typecheck: ## tsc over src, test, scripts
	$(call say,TSC,tsconfig.json)
	$(Q)tsc -p .

fmt: ## format TypeScript, YAML, C and C++
	$(Q)prettier --log-level warn --write .
	$(Q)$(call with_clang_format,-i)

fmt-check: ## fail when `make fmt` would change something
	$(call say,FMT,prettier)
	$(Q)prettier --log-level warn --check .
	$(call say,FMT,clang-format)
	$(Q)$(call with_clang_format,--dry-run -Werror)

presubmit: test ## what CI runs

clean: ## remove build/ (node_modules/ and the cache stay)
	$(Q)rm -rf build

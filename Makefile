# What there is to do here: `make help`. What a newcomer runs: `make demo`, `make deps test`.

GO      ?= go
ifeq ($(origin CC),default)
CC      := gcc
endif
PREFIX  ?= /usr/local
DESTDIR ?=
FUZZTIME ?= 20s
CRASHES  ?= 20
STRIDE   ?= 61
SEEDS    ?= 5
STEPS    ?= 100
SUITE_TOOLS ?= address thread
SCHEDULES ?= 10000
FROM      ?= 1

BUILD := $(CURDIR)/build
RESULTS := $(BUILD)/results
TOOLS := $(CURDIR)/.tools

# A real S3 server for the tests, built once into $(TOOLS).
MINIO_VERSION := v0.0.0-20260212201848-7aac2a2c5b7c
MINIO         := $(TOOLS)/bin/minio

# better-sqlite3 for the test of Node, built once into $(TOOLS), without optimization as
# it is compiled in half the time. Needs a Node that brings its headers.
BETTER_SQLITE3 := 12.11.1
NODE           := $(TOOLS)/better-sqlite3-$(BETTER_SQLITE3)
NODE_PREFIX     = $(patsubst %/bin/node,%,$(realpath $(shell command -v node)))

# A Node that has node:sqlite, for the test of its package.
NODE_SQLITE_VERSION := 24.22.3
NODE_SQLITE         := $(TOOLS)/node-$(NODE_SQLITE_VERSION)

# The sqlite3 shell for arm64, and a Bun for musl with the C++ libraries that it needs. Those of a wheel
# from before DT_RELR, which musl has understood only since 1.2.4.
ARM64_SHELL := $(TOOLS)/arm64-shell
BUN_VERSION := 1.4.4
MUSL_BUN    := $(TOOLS)/bun-musl-$(BUN_VERSION)
MUSL_WHEEL  := greenlet==3.0.3

# What makes the site of the documentation.
MKDOCS_VERSION := 9.8.2
MKDOCS         := $(TOOLS)/mkdocs-material-$(MKDOCS_VERSION)

# An application for the test of LD_PRELOAD, a Python package.
SQLITE_UTILS_VERSION := 4.2.1
SQLITE_UTILS         := $(TOOLS)/sqlite-utils-$(SQLITE_UTILS_VERSION)

# Django for the test of its guide, a Python package.
DJANGO_VERSION := 5.2.8
DJANGO         := $(TOOLS)/django-$(DJANGO_VERSION)

# SQLite3MultipleCiphers for its test, a Python package.
SQLITE3MC_VERSION := 3.54.0.0
SQLITE3MC         := $(TOOLS)/sqlite3mc-$(SQLITE3MC_VERSION)

# Ceph for the tests of RADOS: the machine's, or Debian's packages unpacked here.
CEPH := $(TOOLS)/ceph

# sqlite3ext.h comes from the go-sqlite3 module. The directory is known only once
# the modules are downloaded, hence a recursive variable that asks when used.
SQLITE_HEADERS = $(shell $(GO) list -m -f '{{.Dir}}' github.com/mattn/go-sqlite3)

# Go compiles a package again for other flags. So what is shipped, vet, tests, their programs and those
# of go run have the same ones. The race detector has others: SQLite at -O1, in half the time. No -g:
# what is shipped is stripped.
PLAIN = GOFLAGS="$(strip $(GOFLAGS) -trimpath -buildmode=pie)"
CGO   = CGO_ENABLED=1 CC="$(CC)" CGO_CFLAGS="-O2 -I$(SQLITE_HEADERS)" $(PLAIN)
RACE  = $(subst -O2,-O1,$(CGO)) GORACE=atexit_sleep_ms=10 $(GO) test -race -buildmode=exe -trimpath=false

# golazy.ld: the Go runtime starts at the first replicated open, not at load.
# exports.map: the entry point and the public C API, nothing else.
# --wrap: what C calls of Go runs on Go's threads (cgo/gort_calls.c), which Go waits for (cgo/gort_threads.c).
LINK = -s -w '-extldflags=-Wl,-T,$(CURDIR)/cgo/golazy.ld,--version-script=$(CURDIR)/cgo/exports.map,--wrap=crosscall2,--wrap=pthread_create'

# What verneuilctl version says it was built from; empty outside of a checkout.
COMMIT = $(shell git -C $(CURDIR) describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null)

SOURCE_DATE = $(shell git -C $(CURDIR) log -1 --format=%ct 2>/dev/null || date +%s)

# Where the tests find what was built.
TEST_ENV = VERNEUIL_LIB=$(BUILD)/libverneuil_vfs.so VERNEUIL_CTL=$(BUILD)/verneuilctl VERNEUIL_MINIO=$(MINIO) \
	VERNEUIL_NODE=$(NODE) VERNEUIL_SQLITE3MC=$(SQLITE3MC) VERNEUIL_DIST=$(BUILD)/dist \
	VERNEUIL_ARM64_SHELL=$(ARM64_SHELL) VERNEUIL_MUSL_BUN=$(MUSL_BUN) \
	VERNEUIL_NODE_SQLITE=$(NODE_SQLITE) VERNEUIL_MKDOCS=$(MKDOCS) VERNEUIL_DJANGO=$(DJANGO) VERNEUIL_SQLITE_UTILS=$(SQLITE_UTILS) \
	$(shell bash test/cephtest/env.sh $(CEPH))

# BENCH_PARTS: which chapters (default: all); see bench/main.go.
BENCH_PARTS ?=
BENCH = CC="$(CC)" $(BUILD)/bench -root $(CURDIR) -headers "$(SQLITE_HEADERS)" -parts "$(BENCH_PARTS)" -results $(RESULTS)

.PHONY: all musl lib ctl ctl-files dist arm64 site mkdocs dist-files dist-tools node-sqlite modules toolchain deps needs test check check-format check-tidy check-c vet unit \
        sqlite3-shell minio gunicorn node ciphers ceph demo fuzz crash sanitize sanitize-suite valgrind bench bench-quick bench-long \
        bench-publish bench-tools sqlite-programs sqlite-short sqlite-test install clean distclean help

all: lib ctl recorder preload ## build build/libverneuil_vfs.so and build/verneuilctl (the default)

modules: toolchain
	@$(GO) mod download

# What would else be said by a compiler, in its own words. go.mod's version of Go is asked for: from
# 1.21 on go fetches it by itself, if it may.
GO_NEEDED := $(shell sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)
toolchain:
	@command -v $(GO) >/dev/null || { echo "Verneuil needs Go $(GO_NEEDED), and there is no $(GO): https://go.dev/dl" >&2; exit 1; }
	@v=$$($(GO) env GOVERSION 2>/dev/null); printf 'go%s\n' "$(GO_NEEDED)" "$${v#go}" | sort -VC || { \
	  echo "Verneuil needs Go $(GO_NEEDED): this is $$(cd / && $(GO) version): https://go.dev/dl" >&2; exit 1; }
	@command -v $(firstword $(CC)) >/dev/null || { echo "needs a C compiler, and there is no $(CC) (Debian, Ubuntu: apt-get install gcc libc6-dev)" >&2; exit 1; }
	@echo '#include <stdlib.h>' | $(CC) -E - >/dev/null 2>&1 || { \
	  echo "needs the C library's headers: $(CC) finds no stdlib.h (Debian, Ubuntu: apt-get install libc6-dev)" >&2; exit 1; }

# go build knows better than make what is out of date, so these always ask it.
lib: modules
	@mkdir -p $(BUILD)
	$(CGO) $(GO) build -buildmode=c-shared -trimpath -ldflags "$(LINK)" -o $(BUILD)/libverneuil_vfs.so ./cmd/libverneuil_vfs
	@rm -f $(BUILD)/libverneuil_vfs.h

# The recorder alone: package cgo's C files, but for those that need Go (cmd/libverneuil_recorder).
RECORDER_C = $(filter-out $(addprefix cgo/,recorder_go.c snapshot.c gort%.c remote%.c children.c \
	ceph.c descriptors.c overlay.c spill.c versiontable.c),$(wildcard cgo/*.c)) cmd/libverneuil_recorder/alone.c

.PHONY: recorder
recorder: modules
	@mkdir -p $(BUILD)
	$(CC) -std=gnu11 -O2 -fPIC -shared -fvisibility=hidden -s -I"$(SQLITE_HEADERS)" -Icgo -o $(BUILD)/libverneuil_recorder.so \
	  $(RECORDER_C) -Wl,--version-script=cmd/libverneuil_recorder/exports.map,-z,nodelete,-z,defs -lpthread

# For LD_PRELOAD. -O2: dlopen's call becomes a jump.
.PHONY: preload
preload:
	@mkdir -p $(BUILD)
	$(CC) -std=gnu11 -O2 -fPIC -shared -fvisibility=hidden -s -o $(BUILD)/libverneuil_preload.so cmd/libverneuil_preload/preload.c \
	  -Wl,--version-script=cmd/libverneuil_preload/exports.map,-z,defs -ldl -lpthread

ctl: modules
	@mkdir -p $(BUILD)
	$(CGO) $(GO) build -buildmode=pie -trimpath -ldflags "-s -w -X main.commit=$(COMMIT)" -o $(BUILD)/verneuilctl ./cmd/verneuilctl

deps: modules sqlite3-shell gunicorn minio node node-sqlite mkdocs ciphers dist-tools ceph sqlite-programs ## what the tests need, once: into .tools where it can be, else by apt-get

# make test installs nothing: it says what is missing.
needs:
	@missing=; \
	command -v sqlite3 >/dev/null || missing="$$missing, the sqlite3 shell"; \
	command -v python3 >/dev/null || missing="$$missing, python3"; \
	[ -x $(MINIO) ] || missing="$$missing, MinIO"; \
	[ -d $(TOOLS)/sqlite-test/bin ] || missing="$$missing, SQLite's test programs"; \
	[ -z "$$missing" ] || { echo "the tests need$${missing#,}: run 'make deps' first" >&2; exit 1; }
	@/usr/bin/python3 -c 'import gunicorn' 2>/dev/null || echo "no gunicorn ('make deps'): its test is left out"
	@bash test/cephtest/install.sh $(CEPH) ask || echo "no Ceph ('make deps'): the tests of RADOS are left out"
	@[ -e $(NODE)/built ] || echo "no better-sqlite3 ('make deps', with a Node that has its headers): its test is left out"

test: check needs all dist-files unit sqlite-short elsewhere ## everything that CI runs, but for make deps

check: check-format check-tidy vet check-c

check-format:
	@echo gofmt -l .
	@files=$$(gofmt -l $$($(GO) list -f '{{.Dir}}' ./...)) || exit; \
	if [ -n "$$files" ]; then echo "not formatted (run gofmt -w):"; echo "$$files"; exit 1; fi

check-tidy: modules
	$(GO) mod tidy -diff

vet: modules
	$(CGO) $(GO) vet ./...

# The C files by themselves, with more warnings than cgo lets through.
# Not to /dev/null: where a compilation fails, root's gcc removes that.
check-c: modules
	@mkdir -p $(BUILD)
	@for file in cgo/*.c cmd/libverneuil_recorder/*.c cmd/libverneuil_preload/*.c cgo/librados/*.c bench/host/*.c test/sanitize/*.c test/sanitize/librados/*.c; do \
	  echo "$(CC) -Wall -Wextra -Werror $$file"; \
	  $(CC) -std=gnu11 -O2 -fPIC -Wall -Wextra -Werror -I"$(SQLITE_HEADERS)" -Icgo -c -o $(BUILD)/check.o $$file || exit; \
	done; rm -f $(BUILD)/check.o

# -timeout: a busy machine is slow, and no failure; what hangs is ended by bounds of its own.
# -count=1: go test's cache does not see that the library or the tool changed.
# The tests in test/ run what make has built: the race detector would look at them, and at nothing of
# ours. What takes one call after another is run whole without it (test/crash).
# -vet=off: make check has looked at all. atexit_sleep_ms: each process that has the detector would
# wait a second before it ends. More packages at once than there are processors, as many tests wait,
# and the longest ones first.
# What failed is told again at the end, with the stacks of the tests that hung.
AT_ONCE := $(shell echo $$(($$(nproc) * 3 / 2)))
UNIT := -vet=off -count=1 -p $(AT_ONCE) -timeout 40m
unit: SHELL := bash
unit: modules
	@mkdir -p $(BUILD)
	@set -o pipefail; { \
	  $(TEST_ENV) $(CGO) $(GO) test $(UNIT) ./test/e2e/stores ./test/e2e/hosts ./test/e2e/... ./test/... && \
	  $(TEST_ENV) $(RACE) $(UNIT) ./replicate ./cgo $$($(GO) list ./... | grep -v /test/) && \
	  $(TEST_ENV) $(CGO) $(GO) test $(UNIT) -run 'TestSimulation|TestR7|(ByNthCall|BySeed)$$' ./replicate/remote \
	    $$(grep -lr --include=*_test.go -E 'crash\.(Calls|Seeds)' . | xargs -n 1 dirname | sort -u); \
	} 2>&1 | tee $(BUILD)/unit.log || { awk -f test/failures.awk $(BUILD)/unit.log; exit 1; }

sqlite3-shell:
	@command -v sqlite3 >/dev/null && exit; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing the sqlite3 shell"; \
	  $(call apt_install,sqlite3); \
	fi; \
	command -v sqlite3 >/dev/null || { \
	  echo "the tests need the sqlite3 shell: install it first (Debian, Ubuntu: apt-get install sqlite3)" >&2; exit 1; }

minio: $(TOOLS)/minio-$(MINIO_VERSION)
$(TOOLS)/minio-$(MINIO_VERSION):
	@mkdir -p $(TOOLS)/bin
	@echo "building MinIO for the tests, once (about two minutes)"
	GOBIN=$(TOOLS)/bin GOFLAGS= CGO_ENABLED=0 $(GO) install -trimpath -ldflags "-s -w" github.com/minio/minio@$(MINIO_VERSION)
	@touch $@

# The server is left out where it cannot be had; what it does, processes.py does too.
gunicorn:
	@/usr/bin/python3 -c 'import gunicorn' 2>/dev/null && exit; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing gunicorn"; \
	  $(call apt_install,gunicorn); \
	else echo "no gunicorn (Debian, Ubuntu: apt-get install gunicorn): its test will be left out"; fi

# By apt-get, as root; its lists of packages are fetched where it does not find one.
apt_install = (apt-get install -y -q $(1) || (apt-get update -q && apt-get install -y -q $(1))) >/dev/null

.PHONY: rails
deps: rails
rails:
	@ruby -e 'require "rails"; require "action_controller"; require "active_record"; require "sqlite3"; require "puma"' 2>/dev/null && exit; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing Rails and Puma"; \
	  $(call apt_install,--no-install-recommends $(RAILS)); \
	else echo "no Rails (Debian, Ubuntu: apt-get install $(RAILS)): its test will be left out"; fi
RAILS := ruby-railties ruby-activerecord ruby-actionpack ruby-sqlite3 puma

.PHONY: java
deps: java
java:
	@command -v javac >/dev/null && [ -e /usr/share/java/sqlite-jdbc.jar ] && exit; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing Java and its SQLite"; \
	  $(call apt_install,--no-install-recommends $(JAVA)) || \
	    echo "no Java: its tests are left out"; \
	else echo "no Java with SQLite (Debian, Ubuntu: apt-get install $(JAVA)): its tests will be left out"; fi
JAVA := default-jdk-headless libxerial-sqlite-jdbc-java

ciphers:
	@[ -e $(SQLITE3MC)/apsw ] || { rm -rf $(SQLITE3MC); \
	  /usr/bin/python3 -m pip install -q --disable-pip-version-check --target $(SQLITE3MC) apsw-sqlite3mc==$(SQLITE3MC_VERSION) 2>/dev/null; } || \
	  echo "no SQLite3MultipleCiphers (pip install apsw-sqlite3mc): its test is left out"

ceph:
	@mkdir -p $(TOOLS)
	@bash test/cephtest/install.sh $(CEPH)

.PHONY: django
deps: django
django:
	@[ -e $(DJANGO)/django ] || { rm -rf $(DJANGO); \
	  /usr/bin/python3 -m pip install -q --disable-pip-version-check --target $(DJANGO) django==$(DJANGO_VERSION) 2>/dev/null; } || \
	  echo "no Django (pip install django): its test is left out"

.PHONY: sqlite-utils
deps: sqlite-utils
sqlite-utils:
	@[ -e $(SQLITE_UTILS)/sqlite_utils ] || { rm -rf $(SQLITE_UTILS); \
	  /usr/bin/python3 -m pip install -q --disable-pip-version-check --target $(SQLITE_UTILS) sqlite-utils==$(SQLITE_UTILS_VERSION) 2>/dev/null; } || \
	  echo "no sqlite-utils (pip install sqlite-utils): its test is left out"

node: $(if $(wildcard $(NODE_PREFIX)/include/node/node.h),$(NODE)/built)
	@[ -e $(NODE)/built ] || echo "no Node with headers (include/node/node.h): its test will be left out"
$(NODE)/built:
	@mkdir -p $(NODE)
	@echo "building better-sqlite3 for the tests, once (about half a minute)"
	@echo '{"private": true}' > $(NODE)/package.json
	@cd $(NODE) && npm_config_nodedir=$(NODE_PREFIX) npm_config_build_from_source=true CFLAGS=-O0 CXXFLAGS=-O0 \
	  npm install --no-audit --no-fund --loglevel=error better-sqlite3@$(BETTER_SQLITE3)
	@touch $@

node-sqlite:
	@[ -e $(NODE_SQLITE)/bin/node ] || { rm -rf $(NODE_SQLITE)-npm; mkdir -p $(NODE_SQLITE)-npm && cd $(NODE_SQLITE)-npm && \
	  echo '{"private": true}' > package.json && package=node-linux-$$(node -p process.arch) && \
	  npm install --no-audit --no-fund --loglevel=error $$package@$(NODE_SQLITE_VERSION) >/dev/null && \
	  mkdir -p $(NODE_SQLITE)/bin && mv node_modules/$$package/bin/node $(NODE_SQLITE)/bin/node; } || \
	  echo "no node $(NODE_SQLITE_VERSION) from npm: the test of node:sqlite is left out"
	@rm -rf $(NODE_SQLITE)-npm

# What looks at packages; a test says what it leaves out without them.
dist-tools:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  for package in lintian pkg-config python3-venv zsh fish; do \
	    dpkg -s $$package >/dev/null 2>&1 || { echo "installing $$package"; \
	      $(call apt_install,$$package); }; \
	  done; \
	fi

demo: ## perform the walkthrough on the embedded dir target
	@echo "First the build, about a minute the first time. Then the walkthrough, half a minute."
	@$(MAKE) --no-print-directory all
	@bash testdata/demo.sh $(BUILD)

# One processor; 5000 schedules to a process.
.PHONY: simulation
simulation: modules ## SCHEDULES (10000) of databases in stores, simulated with faults, from the seed FROM (1) on
	@mkdir -p $(BUILD)
	@$(CGO) $(GO) test -c -o $(BUILD)/simulation.test ./replicate/remote
	@from=$(FROM); end=$$(($(FROM) + $(SCHEDULES))); \
	while [ $$from -lt $$end ]; do \
	  n=$$((end - from)); [ $$n -le 5000 ] || n=5000; \
	  GOMAXPROCS=1 $(BUILD)/simulation.test -test.run '^TestSimulation$$' -test.timeout 5h -first $$from -schedules $$n || { \
	    echo "to see what happens in the one of a seed: $(BUILD)/simulation.test -test.run '^TestSimulation$$' -seed SEED" >&2; exit 1; }; \
	  from=$$((from + n)); \
	  echo "$$(date +%T) all passed up to here; to go on: make simulation FROM=$$from SCHEDULES=$$((end - from))"; \
	done

fuzz: modules ## each fuzz target for FUZZTIME (20s)
	@$(GO) list ./... | while read -r package; do \
	  $(CGO) $(GO) test -list '^Fuzz' $$package | grep '^Fuzz' | while read -r target; do \
	    echo "$$package $$target"; \
	    $(CGO) $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package || exit; \
	  done || exit; \
	done

# The packages that have such tests say so in their TestMain (test/crash).
crash: all needs ## the tests in which processes die or calls fail, CRASHES (20) times, every STRIDE-th (61st) call
	@packages=$$(grep -lr --include='*_test.go' -E 'crash\.Main|harness\.Main\(m, ' cgo cmd replicate spool test vfs | xargs -n 1 dirname | sort -u | sed 's|^|./|'); \
	  $(TEST_ENV) VERNEUIL_FAULT_STRIDE=$(STRIDE) $(CGO) $(GO) test -v -count=$(CRASHES) -timeout 600m $$packages

sanitize: modules valgrind ## C under ASan, UBSan, TSan and valgrind, SEEDS (5) times STEPS (100), ten minutes
	CC="$(CC)" test/sanitize/run.sh $(BUILD)/sanitize "$(SQLITE_HEADERS)" $(SEEDS) $(STEPS) address thread valgrind

sanitize-suite: all needs ## SQLite's tests of make test, our C under ASan and UBSan, then TSan; SUITE_TOOLS, SQLITE_TEST
	CC="$(CC)" GO="$(GO)" $(TEST_ENV) SQLITE_TEST="$(SQLITE_TEST)" \
	  test/sanitize/suite.sh $(BUILD)/sanitize-suite "$(SQLITE_HEADERS)" $(TOOLS)/sqlite-test $(SUITE_TOOLS)

valgrind:
	@command -v valgrind >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get install -y -q valgrind; }

bench: all sqlite3-shell bench-tools ## what replication costs, to stock SQLite and peers, into build/results/results.md (15 minutes)
	$(BENCH)/results.md -form normal

bench-quick: all sqlite3-shell bench-tools ## the same with small sizes, 2 minutes
	$(BENCH)/results.md -form quick

bench-long: all sqlite3-shell bench-tools ## the same with 8 GiB and 100 GiB, hours, 60 GB of disk, into build/results/long.md
	$(BENCH)/long.md -form long

bench-publish: ## put the last run's main table and plot into docs/performance.md, all of it into bench/published
	$(GO) run ./bench -publish docs/performance.md -results $(RESULTS)/results.md

bench-tools: minio ## what bench compares with, built once into .tools; what cannot be built is left out
	@GO="$(GO)" CC="$(CC)" bash bench/tools.sh $(TOOLS)
	@$(GO) build -o $(BUILD)/bench ./bench

sqlite-programs:
	@CC="$(CC)" bash test/sqlite/fixture/build.sh $(TOOLS)/sqlite-test

# The subsets of test/sqlite/item.go, in about two minutes, and remote.go, in one.
sqlite-short: all
	$(TEST_ENV) $(CGO) $(GO) run ./test/sqlite -programs $(TOOLS)/sqlite-test -short -timeout 2m
	$(TEST_ENV) $(CGO) $(GO) run ./test/sqlite -programs $(TOOLS)/sqlite-test -short -remote -timeout 2m

sqlite-test: all needs ## SQLite's own tests with our VFS and with stock, compared, more than an hour; SQLITE_TEST='-only REGEXP -v', or -remote
	$(TEST_ENV) $(CGO) $(GO) run ./test/sqlite -programs $(TOOLS)/sqlite-test $(SQLITE_TEST)

# What is made of the definitions of commands: manual pages, and completions of three shells.
ctl-files: ctl
	@rm -rf $(BUILD)/man $(BUILD)/completions && mkdir -p $(BUILD)/man $(BUILD)/completions
	@SOURCE_DATE_EPOCH=$(SOURCE_DATE) $(BUILD)/verneuilctl man $(BUILD)/man
	@for shell in bash zsh fish; do $(BUILD)/verneuilctl completion $$shell > $(BUILD)/completions/$$shell || exit; done

install: all ctl-files ## into PREFIX (/usr/local): verneuilctl, libverneuil_vfs.so, manual pages, completions
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 755 $(BUILD)/verneuilctl $(DESTDIR)$(PREFIX)/bin/verneuilctl
	install -m 755 $(BUILD)/libverneuil_vfs.so $(DESTDIR)$(PREFIX)/lib/libverneuil_vfs.so
	install -m 755 $(BUILD)/libverneuil_recorder.so $(DESTDIR)$(PREFIX)/lib/libverneuil_recorder.so
	install -m 755 $(BUILD)/libverneuil_preload.so $(DESTDIR)$(PREFIX)/lib/libverneuil_preload.so
	install -m 644 $(BUILD)/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1
	install -D -m 644 $(BUILD)/completions/bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/verneuilctl
	install -D -m 644 $(BUILD)/completions/zsh $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_verneuilctl
	install -D -m 644 $(BUILD)/completions/fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/verneuilctl.fish

dist-files: all ctl-files
	@rm -rf $(BUILD)/dist
	SOURCE_DATE_EPOCH=$(SOURCE_DATE) $(CGO) $(GO) run ./cmd/dist -root $(CURDIR) -build $(BUILD) -out $(BUILD)/dist

dist: dist-files container-tools ## packages (tarball, pip, npm, Debian, container) into build/dist, each installed and used by a test
	$(TEST_ENV) VERNEUIL_DIST_LONG=1 $(CGO) $(GO) test -count=1 -timeout 30m ./test/dist

# For the container's recipe, which make test leaves alone: it takes minutes.
.PHONY: container-tools
container-tools:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! dpkg -s $(CONTAINER_TOOLS) >/dev/null 2>&1; then \
	  echo "installing podman and debootstrap"; \
	  $(call apt_install,--no-install-recommends $(CONTAINER_TOOLS)) || \
	    echo "no podman or no debootstrap: the test of the container is left out"; \
	fi
CONTAINER_TOOLS := podman runc debootstrap

# Cross-built; the tests of what differs on a processor, and of the packages' files, under qemu.
ARM64_CGO = CGO_ENABLED=1 GOARCH=arm64 CC=aarch64-linux-gnu-gcc CGO_CFLAGS="-O2 -I$(SQLITE_HEADERS)"
arm64: modules ctl-files ## packages for arm64, cross-built into build/arm64/dist, and tried under qemu
	@for tool in aarch64-linux-gnu-gcc qemu-aarch64-static; do command -v $$tool >/dev/null || { \
	  echo "needs $$tool (Debian: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static)" >&2; exit 1; }; done
	@rm -rf $(BUILD)/arm64 && mkdir -p $(BUILD)/arm64 && cp -r $(BUILD)/man $(BUILD)/completions $(BUILD)/arm64
	$(ARM64_CGO) $(GO) build -buildmode=c-shared -trimpath -ldflags "$(LINK)" -o $(BUILD)/arm64/libverneuil_vfs.so ./cmd/libverneuil_vfs
	$(ARM64_CGO) $(GO) build -buildmode=pie -trimpath -ldflags "-s -w -X main.commit=$(COMMIT)" -o $(BUILD)/arm64/verneuilctl ./cmd/verneuilctl
	@rm -f $(BUILD)/arm64/libverneuil_vfs.h
	@$(MAKE) --no-print-directory recorder preload CC=aarch64-linux-gnu-gcc BUILD=$(BUILD)/arm64
	SOURCE_DATE_EPOCH=$(SOURCE_DATE) $(CGO) $(GO) run ./cmd/dist -root $(CURDIR) -build $(BUILD)/arm64 -out $(BUILD)/arm64/dist
	$(TEST_ENV) VERNEUIL_ARM64=$(BUILD)/arm64 $(CGO) $(GO) test -vet=off -count=1 -timeout 30m -run 'TestArm64|TestChecksumForms' ./test/dist ./cgo

# Go's runtime interrupts threads by signals, which qemu delivers late: asyncpreemptoff. Left out: what
# starts itself again, which a kernel without binfmt_misc does not do for another processor; what starts
# other programs, as qemu's child may wait for a lock of one of its other threads, for ever; and most of
# spool, which knows processes by when they began: qemu says of each thread when that one began.
ARM64_SHORT := chunkstore chunkstore/keyring replicate/cutter replicate/proof
ARM64_TESTS ?= $(ARM64_SHORT) chunkstore/cache chunkstore/dir manifest manifest/history spool/sqlitefile \
	replicate/courier replicate/mirror replicate/patrol replicate/restore replicate/versions replicate/remote/compose
ARM64_NOT   := TestDirConditionsBetweenProcesses|TestKilled|TestKeyCommand|TestKeyCommandFails
# pie: most is compiled already, for the tool.
ARM64_TEST  = GODEBUG=asyncpreemptoff=1 $(ARM64_CGO) $(GO) test -buildmode=pie -trimpath -vet=off -count=1 -short -timeout 60m \
	-exec 'qemu-aarch64-static -L /usr/aarch64-linux-gnu'
.PHONY: test-arm64
test-arm64: arm64 ## tests of the rooms in Go for arm64, under qemu: ARM64_TESTS
	$(ARM64_TEST) -skip '^($(ARM64_NOT))$$' $(addprefix ./,$(ARM64_TESTS))
	$(ARM64_TEST) -run 'TestChecksumForms|TestLog|Vector' ./spool ./manifest/...

# What make test runs of arm64 and musl.
.PHONY: elsewhere elsewhere-tools
elsewhere:
	@if command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64-static >/dev/null; then $(MAKE) --no-print-directory test-arm64 ARM64_TESTS="$(ARM64_SHORT)"; \
	else echo "no cross compiler or no qemu ('make deps'): the tests of arm64 are left out"; fi
	@if command -v musl-gcc >/dev/null; then $(MAKE) --no-print-directory musl; \
	else echo "no musl-gcc ('make deps'): the tests of musl are left out"; fi

deps: elsewhere-tools
elsewhere-tools:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! dpkg -s $(ELSEWHERE) >/dev/null 2>&1; then \
	  echo "installing a cross compiler, qemu and musl"; \
	  $(call apt_install,--no-install-recommends $(ELSEWHERE)) || \
	    echo "no cross compiler, qemu or musl: their tests are left out"; \
	fi
	@mkdir -p $(TOOLS)
	@[ -e $(ARM64_SHELL)/usr/bin/sqlite3 ] || bash test/dist/arm64-shell.sh $(ARM64_SHELL) >$(ARM64_SHELL).log 2>&1 || \
	  echo "no sqlite3 shell for arm64 ($(ARM64_SHELL).log): its test is left out"
	@[ "$$(uname -m)" != x86_64 ] || [ -e $(MUSL_BUN)/bun ] || bash test/dist/musl-bun.sh $(MUSL_BUN) $(BUN_VERSION) $(MUSL_WHEEL) >$(MUSL_BUN).log 2>&1 || \
	  echo "no Bun for musl ($(MUSL_BUN).log): its test is left out"
ELSEWHERE := gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static musl-tools

site: ctl ## the documentation as a site, in build/site; a dead link is an error
	@[ -d $(MKDOCS)/mkdocs ] || { echo "needs mkdocs: run 'make deps' first" >&2; exit 1; }
	@bash docs/site/build.sh $(CURDIR) $(MKDOCS) $(BUILD)/verneuilctl

mkdocs:
	@[ -d $(MKDOCS)/mkdocs ] || { rm -rf $(MKDOCS); echo "installing MkDocs"; \
	  /usr/bin/python3 -m pip install -q --disable-pip-version-check --target $(MKDOCS) mkdocs-material==$(MKDOCS_VERSION) 2>/dev/null; } || \
	  echo "no MkDocs (pip install mkdocs-material): its test is left out"

# musl-gcc has no kernel headers of its own.
MUSL_HEADERS := -idirafter /usr/include -idirafter /usr/include/$(shell $(CC) -print-multiarch)
musl: modules ## the recorder for musl, and a static verneuilctl, into build/musl, and tried there
	@command -v musl-gcc >/dev/null || { echo "needs musl-gcc (Debian: apt-get install musl-tools)" >&2; exit 1; }
	@mkdir -p $(BUILD)/musl
	musl-gcc -std=gnu11 -O2 -fPIC -shared -fvisibility=hidden -s -I"$(SQLITE_HEADERS)" -Icgo $(MUSL_HEADERS) -o $(BUILD)/musl/libverneuil_recorder.so \
	  $(RECORDER_C) -Wl,--version-script=cmd/libverneuil_recorder/exports.map,-z,nodelete,-z,defs -lpthread
	CGO_ENABLED=1 CC=musl-gcc CGO_CFLAGS="-O2 -I$(SQLITE_HEADERS) $(MUSL_HEADERS)" $(GO) build -tags netgo,osusergo -trimpath \
	  -ldflags "-s -w -X main.commit=$(COMMIT) -linkmode external -extldflags -static" -o $(BUILD)/musl/verneuilctl ./cmd/verneuilctl
	$(TEST_ENV) VERNEUIL_MUSL=$(BUILD)/musl $(CGO) $(GO) test -vet=off -count=1 -timeout 20m -run TestMusl ./test/dist

clean: ## remove build/
	rm -rf $(BUILD)

distclean: clean ## remove the tools (MinIO) too
	rm -rf $(TOOLS)

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

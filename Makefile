# `make help` lists the targets.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Any Go from 1.21 on fetches the toolchain that go.mod names, also Debian's,
# which ships with GOTOOLCHAIN=local. A root shell often lacks Go's own place.
export GOTOOLCHAIN := auto
export PATH := $(PATH):/usr/local/go/bin
export CGO_ENABLED := 0

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X candor.dev/candor/version.Version=$(VERSION:v%=%)
# -buildvcs=false: the version is stamped above, and git refuses to speak to a
# root that builds in another user's clone.
GOBUILD := go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

# On the PATH; and what these start by its path, which has to lie together:
# shim and wrapper look for candord where they find the hooks.
PROGRAMS := containerd-shim-candor-v1 candor-runc candor
LIBEXECS := candord candor-prestart-net candor-prestart-lxcfs candor-poststop

# Where `make install` puts things; DESTDIR for packages.
PREFIX     ?= /usr/local
BINDIR     ?= $(PREFIX)/bin
LIBEXECDIR ?= /usr/libexec/candor
SYSCONFDIR ?= /etc
UNITDIR    ?= $(PREFIX)/lib/systemd/system
DOCDIR     ?= $(PREFIX)/share/doc/candor

# SETUP=no: install nothing, take the machine as it is.
SETUP    ?= yes
FUZZTIME ?= 4s
PKG      ?=
BATS     ?= tests/bats

.PHONY: help
help: ## list these targets
	@echo "make TARGET    (as root; setup installs what is missing, SETUP=no leaves that out)"; echo
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

##### Building

.PHONY: setup
setup: ## install what a build and the demo need: apt packages, Go (says what, first)
ifneq ($(SETUP),no)
	@scripts/setup.sh demo
endif

.PHONY: setup-test
setup-test:
ifneq ($(SETUP),no)
	@scripts/setup.sh test
endif

.PHONY: build
build: $(addprefix bin/,$(PROGRAMS) $(LIBEXECS)) ## build candor's programs into bin/

# Always remade: go build knows better than make what changed, and is quick.
.PHONY: FORCE
FORCE:

# no_grpc: a shim speaks ttrpc; containerd builds its own shim so, too.
bin/containerd-shim-candor-v1: FORCE
	@$(GOBUILD) -tags no_grpc -o $@ ./shim/containerd-shim-candor-v1
bin/candor-runc: FORCE
	@$(GOBUILD) -o $@ ./shim/candor-runc
bin/candor-%: FORCE
	@$(GOBUILD) -o $@ ./hooks/$*
bin/candord: FORCE
	@$(GOBUILD) -o $@ ./cmd/candord
bin/candor: FORCE
	@$(GOBUILD) -o $@ ./cmd/candor

.PHONY: tools
tools: ## build containerd, ctr, its runc shim and runc into bin/tools/
	@scripts/tools.sh peers

##### Showing and testing

.PHONY: demo
demo: setup ## set up, build, and show candor beside runc (NIC=ens5: with your own NIC)
	@$(MAKE) --no-print-directory tools build
	@demo/run.sh $(if $(NIC),--nic $(NIC))

.PHONY: demo-sriov
demo-sriov: setup-test ## the demo in the test guest, on SR-IOV VFs (some minutes: it is emulated)
	@$(MAKE) --no-print-directory tools build
	@tests/guest/run.sh 'mkdir /srv/candor && cp -r bin demo tests /srv/candor && /srv/candor/demo/sriov.sh'

.PHONY: test
test: setup-test ## everything: unit, crash, fuzz, host, fresh, guest; says at the end what ran where
	@$(MAKE) --no-print-directory tools build
	@scripts/test.sh

.PHONY: test-unit
test-unit: ## Go tests (real kernel, throw-away namespaces; root; PKG=./nic for one)
	@scripts/test.sh unit

.PHONY: test-bats
test-bats: tools build ## end-to-end tests against a private containerd (BATS=file for one)
	@scripts/test.sh host

.PHONY: test-crash
test-crash: setup-test ## the hooks, killed at every call that changes something
	@$(MAKE) --no-print-directory build
	@scripts/test.sh crash

.PHONY: test-guest
test-guest: setup-test ## the suites in a QEMU guest: SR-IOV, cgroup v2 on 6.12, cgroup v1 on 6.1
	@$(MAKE) --no-print-directory tools build
	@scripts/test.sh guest

.PHONY: test-fresh
test-fresh: ## the set-up, from nothing, in a debootstrapped bookworm without Go
	@scripts/test.sh fresh

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (4s)
	@scripts/test.sh fuzz

.PHONY: lint
lint: setup-test ## golangci-lint, shellcheck, shfmt
	@scripts/tools.sh lint
	@scripts/lint.sh

.PHONY: bench
bench: ## measure beside the peers; tables in bench/results
ifneq ($(SETUP),no)
	@scripts/setup.sh bench
endif
	@$(MAKE) --no-print-directory tools build
	@bench/run.sh

.PHONY: bench-resview
bench-resview: ## the same of the resource view: beside lxcfs, a C server of static files, the kernel
ifneq ($(SETUP),no)
	@scripts/setup.sh bench
endif
	@$(MAKE) --no-print-directory tools build
	@bench/run.sh view

.PHONY: bench-nic
bench-nic: ## the same of NICs: attach and give-back beside CNI plugins, packet rates
ifneq ($(SETUP),no)
	@scripts/setup.sh bench
endif
	@$(MAKE) --no-print-directory tools build
	@scripts/tools.sh cni || true # without them the rates are measured
	@bench/run.sh attach vf rate

.PHONY: bench-vf
bench-vf: setup-test ## attach and give-back of a VF, in the test guest (BENCH_SRIOV_CNI=FILE)
	@$(MAKE) --no-print-directory tools build
	@scripts/tools.sh cni
	@bench/guest.sh

.PHONY: test-truth
test-truth: setup-soak tools build ## what free, top, ps, Python and an exporter say in a container under known loads
	@bats --print-output-on-failure tests/truth

.PHONY: setup-soak
setup-soak:
ifneq ($(SETUP),no)
	@scripts/setup.sh soak
endif

.PHONY: soak
soak: setup-soak tools build ## 500 containers at four NICs, a minute of known load, a thousand kills of candord's worker and 24 million reads, kills for MINUTES (10), the whole crash matrix, the guest's long tests
	@CANDOR_CHURN=500 bats --print-output-on-failure tests/bats/09-churn.bats
	@CANDOR_TRUTH_SECONDS=60 bats --print-output-on-failure tests/truth
	@CANDOR_VIEW_KILLS=1000 CANDOR_VIEW_STOPS=20 CANDOR_VIEW_CONTAINERS=50 CANDOR_VIEW_READS=1000000 \
	  go test -v -count 1 -timeout 90m -run 'NoticeNoFault|EveryContainerIsMended|CostsNoMemory|HangsDelaysNobody|TheirAnswers' ./daemon
	@tests/soak/run.sh
	@CANDOR_CRASH=all go test -v -count 1 -timeout 60m ./tests/crash
	@tests/guest/test.sh --soak

export FUZZTIME BATS PKG

##### Installing

.PHONY: install
install: build ## install under PREFIX (/usr/local), hooks and candord in /usr/libexec/candor; DESTDIR works
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBEXECDIR) $(DESTDIR)$(UNITDIR) $(DESTDIR)$(DOCDIR)/docs $(DESTDIR)$(SYSCONFDIR)/candor/config.d
	install -m 0755 $(addprefix bin/,$(PROGRAMS)) $(DESTDIR)$(BINDIR)/
	install -m 0755 $(addprefix bin/,$(LIBEXECS)) $(DESTDIR)$(LIBEXECDIR)/
	for unit in $(wildcard packaging/systemd/*); do \
	  sed 's|@LIBEXECDIR@|$(LIBEXECDIR)|g' "$$unit" >$(DESTDIR)$(UNITDIR)/"$${unit##*/}"; chmod 0644 $(DESTDIR)$(UNITDIR)/"$${unit##*/}"; done
	install -m 0644 packaging/config.example.toml README.md SECURITY.md CHANGELOG.md LICENSE $(DESTDIR)$(DOCDIR)/
	install -m 0644 docs/*.md $(DESTDIR)$(DOCDIR)/docs/
	@# The policy is the operator's: an existing one is never touched.
	test -e $(DESTDIR)$(SYSCONFDIR)/candor/config.toml || \
	  install -m 0600 packaging/config.toml $(DESTDIR)$(SYSCONFDIR)/candor/config.toml

.PHONY: uninstall
uninstall: ## remove what install put there; the policy in /etc/candor stays
	rm -f $(addprefix $(DESTDIR)$(BINDIR)/,$(PROGRAMS)) $(addprefix $(DESTDIR)$(LIBEXECDIR)/,$(LIBEXECS))
	for unit in $(wildcard packaging/systemd/*); do rm -f $(DESTDIR)$(UNITDIR)/"$${unit##*/}"; done
	rm -rf $(DESTDIR)$(DOCDIR)
	-rmdir --ignore-fail-on-non-empty $(DESTDIR)$(LIBEXECDIR) 2>/dev/null

.PHONY: guest-clean
guest-clean: ## remove the built guest from the cache
	@tests/guest/run.sh --clean

.PHONY: clean
clean: ## remove bin/ except bin/tools
	find bin -maxdepth 1 -type f -delete 2>/dev/null || true
	rm -rf bin/bench

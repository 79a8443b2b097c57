# netops.fleet: what can be done with a checkout. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.ONESHELL:
.NOTPARALLEL:

# The inventory that `make diagnose` uses, and more words for ansible-playbook, such as: -e diagnose_target=tcp/1678 -l gpu-nodes
INVENTORY ?= inventories/local
DIAGNOSE_ARGS ?=
# More words for pytest in `make test` and `make check`, such as: -k nft -x
PYTEST_ARGS ?=
# pytest's status when PYTEST_ARGS chose no test of its part.
NONE_CHOSEN := 5

RUN := .venv/bin
TEST := .venv-test/bin

# What the tests need from the distribution; the controller itself needs only Python. linux-image and qemu-system stand for the
# packages of this machine's kind: a stock kernel, booted in emulation, shows what this machine's own kernel may not have.
PACKAGES := bpftool bpftrace busybox-static chromium debian-archive-keyring git iproute2 ipset iptables ipvsadm keepalived kmod linux-image mmdebstrap nftables openvswitch-switch \
            openssh-client podman procps python3-venv qemu-system runc systemd tcpdump util-linux

.PHONY: help
help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: venv
venv: ## Make .venv with what the controller needs (exact versions: requirements/run.txt)
	@requirements/venv .venv requirements/run.txt

.PHONY: venv-test
venv-test: ## Make .venv-test with what the tests need (requirements/test.txt)
	@requirements/venv .venv-test requirements/test.txt

.PHONY: diagnose
diagnose: venv ## Diagnose INVENTORY (default: this machine); prints a summary and the report's path. More: DIAGNOSE_ARGS='-e diagnose_target=tcp/1678'
	@PATH="$$PWD/$(RUN):$$PATH" ANSIBLE_CONFIG="$$PWD/ansible.cfg" $(RUN)/ansible-playbook -i "$(INVENTORY)" playbooks/diagnose.yml $(DIAGNOSE_ARGS)

.PHONY: packages
packages:
	@requirements/packages $(PACKAGES)

.PHONY: test
test: packages venv-test ## Run everything: linters, types, unit, kernel, sanity, and the lab's scenarios (root, Debian or Ubuntu)
	@# What only computes, on all processors. What has namespaces of its own, mostly waiting, in three processes. Then, one test at a
	@# time, what looks at the whole machine or judges delays, and what boots hosts: there a busy machine would be a finding.
	$(TEST)/pytest -n auto --dist worksteal -m 'not drill' tests/test_sanity.py tests/test_lint.py tests/unit $(PYTEST_ARGS) || [ $$? = $(NONE_CHOSEN) ]
	$(TEST)/pytest -n 3 --dist worksteal -m 'not drill and not alone' tests/faults tests/kernel $(PYTEST_ARGS) || [ $$? = $(NONE_CHOSEN) ]
	$(TEST)/pytest -m 'not drill and alone' tests/faults tests/kernel $(PYTEST_ARGS) || [ $$? = $(NONE_CHOSEN) ]
	$(TEST)/pytest -m 'not drill' tests/lab $(PYTEST_ARGS) || [ $$? = $(NONE_CHOSEN) ]

.PHONY: test-lvs
test-lvs: packages venv-test ## Run everything about load balancing: virtual services, keepalived, failover drills (a virtual machine, 20 minutes)
	@$(TEST)/pytest tests/unit/test_lvs_*.py tests/lab/test_guest.py tests/lab/test_lvs*.py tests/lab/test_drill.py $(PYTEST_ARGS)

.PHONY: test-all
test-all: packages venv-test ## Everything, with the scenarios and virtual machines that take long
	@$(TEST)/pytest tests $(PYTEST_ARGS)

.PHONY: check
check: venv-test ## The fast loop: ruff, mypy, unit tests
	@$(TEST)/pytest tests/unit tests/test_lint.py -k 'not ansible_lint' $(PYTEST_ARGS)

.PHONY: bench
bench: packages venv-test ## Measure against the raw tools, in the same run
	@$(TEST)/python -m tests.bench

.PHONY: demo
demo: packages venv venv-test ## Boot a small fleet, break it (nft drop, BPF drop), diagnose it, clean up
	@$(TEST)/python -m tests.lab.demo

.PHONY: clean
clean: ## Remove virtual environments, caches, reports, and the lab's labs and image
	@if [ "$$(id -u)" = 0 ] && command -v podman >/dev/null && [ -x $(TEST)/python ]; then
		$(TEST)/python -m tests.lab clean
	fi
	rm -rf .venv .venv-test .cache .ansible reports
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

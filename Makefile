# Two commands do everything: `make demo` and `make test`; each sets up its own virtual environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint testbed testbed-down test-live clean

demo: $(VENV)/demo-installed
	$(BIN)/imbres-gym compare social-network/high-strict --agents imbres,ls-fc,hpa-full --seeds 3 --duration 30m \
		--workers 2 --out runs/demo --resume

test: $(VENV)/test-installed
	$(BIN)/pytest

lint: $(VENV)/test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A real Kubernetes cluster of three nodes on this machine (Debian 12, as root): docs/testbed.md.
testbed: $(VENV)/test-installed
	$(BIN)/python -m scripts.testbed up

testbed-down: $(VENV)/test-installed
	$(BIN)/python -m scripts.testbed down

# Brings the bed up if it is down, and then takes it down again.
test-live: $(VENV)/test-installed
	$(BIN)/pytest tests/testbed

clean:
	rm -rf $(VENV) runs

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo-installed: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "installing into $(VENV) (a minute or two) ..."
	$(INSTALL) --editable .
	touch $@

$(VENV)/test-installed: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "installing into $(VENV), with PyTorch for the checks of stable-baselines3 and Ray for rollouts, lightkube for Kubernetes (some minutes) ..."
	$(INSTALL) --editable '.[rl,ray,traces,live,dev]'
	touch $@ $(VENV)/demo-installed

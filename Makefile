# Two commands do everything on a fresh machine with Python 3.10+ and make:
#   make demo    install, and analyse two real networks on a real digit
#   make test    install, and run every test but the slow ones (ISOMETRY_ZOO=all runs those too)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint types contracts docs wheel check clean

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "isometry needs Python 3.10 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	@mkdir -p out
	@echo '== tanh_critical.pt: 50 layers, orthogonal weights at criticality: it trains'
	@$(BIN)/isometry analyze data/models/tanh_critical.pt --input data/digit.npy \
	  --json out/tanh_critical.json --figure out/tanh_critical.png
	@echo
	@echo '== tanh_default.pt: the same network as PyTorch initialises it: it does not train'
	@$(BIN)/isometry analyze data/models/tanh_default.pt --input data/digit.npy \
	  --json out/tanh_default.json --figure out/tanh_default.png
	@echo
	@echo 'The figures are out/tanh_critical.png and out/tanh_default.png.'
	@echo 'Trained on the digits (examples/train_digits.py), the first learns 98.7 %; no learning rate'
	@echo 'gets the second past 13 %.'

# One thread: the laws' many small products are slower with more.
test: export OMP_NUM_THREADS = 1
test: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

contracts: $(STAMP)
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/python -m pytest tests/docs -q

wheel: $(STAMP)
	$(BIN)/python tests/packaging/install_wheel.py

check: test lint types contracts docs wheel

clean:
	rm -rf $(VENV) build dist out *.egg-info

"""Does a network train? Measured on the handwritten digits, for every network in ``data/models``.

The question is fixed beforehand. A network *trains* if its accuracy on the 297 test digits reaches
90 % after a fixed budget: plain SGD with momentum 0.9, batches of 64, ten epochs of the 1,500
training digits, cross-entropy over its logits, from the state in its file. The learning rate is
the one of thirteen, log-spaced from 1e-5 to 10, with the lowest final training loss, so that the
test digits choose nothing and no network fails for want of a rate that suits it.

Run ``python examples/train_digits.py`` (a few minutes on two cores).
"""

import argparse
import copy
import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from examples.networks import LAYERS, residual_mlp
from examples.singular_values import Shape, mean_shape

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "examples" / "results"
TRAINS = 0.90
RATES = tuple(float(f"{rate:.2g}") for rate in np.logspace(-5, 1, 13))


@dataclass(frozen=True)
class Digits:
    """Images (n, 64) and labels (n,), for training and for testing."""

    x: torch.Tensor
    y: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor


@dataclass(frozen=True)
class Outcome:
    """How one training run ended; a loss that overflowed is infinite."""

    rate: float
    loss: float
    accuracy: float


def load_digits() -> Digits:
    """The digits in ``data/digits.npz``: 1,500 to train on, 297 to test on."""
    with np.load(ROOT / "data" / "digits.npz") as file:
        x, y = torch.from_numpy(file["x"]), torch.from_numpy(file["y"])
    return Digits(x[:1500], y[:1500], x[1500:], y[1500:])


def load_model(path: Path) -> nn.Module:
    """A network of ``data/models``: a whole module, or the state of the residual one."""
    with torch.serialization.safe_globals(LAYERS):
        stored = torch.load(path, weights_only=True)
    if isinstance(stored, nn.Module):
        return stored
    model = residual_mlp()
    model.load_state_dict(stored)
    return model


@torch.no_grad()
def evaluate(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy; infinite and zero where the outputs are not finite."""
    logits = model(x)
    if not torch.isfinite(logits).all():
        return math.inf, 0.0
    loss = nn.functional.cross_entropy(logits, y)
    return float(loss), float((logits.argmax(dim=1) == y).float().mean())


def fit(model: nn.Module, digits: Digits, rate: float, epochs: int, seed: int = 0) -> Outcome:
    """Train a copy of the model and say how it ended; the model itself is left as it was."""
    model = copy.deepcopy(model).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.randperm(len(digits.x), generator=generator).split(64):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(model(digits.x[batch]), digits.y[batch])
            if not torch.isfinite(loss):
                return Outcome(rate, math.inf, 0.0)
            loss.backward()
            optimiser.step()
    model.eval()
    loss_train, _ = evaluate(model, digits.x, digits.y)
    _, accuracy = evaluate(model, digits.x_test, digits.y_test)
    return Outcome(rate, loss_train, accuracy)


def best(outcomes: Iterable[Outcome]) -> Outcome:
    """The run with the lowest training loss."""
    return min(outcomes, key=lambda outcome: outcome.loss)


def study(path: Path, digits: Digits, epochs: int) -> dict[str, object]:
    """Spectrum at the start, and every training run, of one network."""
    model = load_model(path)
    first, mean = mean_shape(model, digits.x[:1]), mean_shape(model, digits.x[:16])
    runs = [fit(model, digits, rate, epochs) for rate in RATES]
    chosen = best(runs)
    return {
        "model": path.stem,
        "trains": chosen.accuracy >= TRAINS,
        "accuracy": chosen.accuracy,
        "rate": chosen.rate,
        "loss": finite(chosen.loss),
        "accuracy_at_the_start": evaluate(model, digits.x_test, digits.y_test)[1],
        "best_accuracy_at_any_rate": max(run.accuracy for run in runs),
        "first_digit": asdict(first),
        "mean_of_16_digits": asdict(mean),
        "runs": [{**asdict(run), "loss": finite(run.loss)} for run in runs],
    }


def finite(value: float) -> float | None:
    """The value, or None where it is not a number that JSON knows."""
    return value if math.isfinite(value) else None


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def row(result: dict[str, object]) -> str:
    """One network as a row of the table."""
    shape = Shape(**result["mean_of_16_digits"])
    loss = "overflow" if result["loss"] is None else f"{result['loss']:.2g}"
    return (
        f"| {result['model']} | {shape.score:.3g} | {shape.drift:.2f} | {shape.spread:.2f} "
        f"| {'yes' if result['trains'] else 'no'} | {result['accuracy']:.1%} "
        f"| {result['rate']:.2g} | {loss} |"
    )


def table(results: list[dict[str, object]]) -> str:
    """All networks as a Markdown table."""
    head = "| network | score | drift | spread | trains | test accuracy | rate | training loss |"
    return "\n".join([head, "|---|---|---|---|---|---|---|---|", *map(row, results)])


def main() -> None:
    """Train every network, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--models", type=Path, default=ROOT / "data" / "models")
    parser.add_argument("--out", type=Path, default=RESULTS / "train_digits.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started, digits = time.perf_counter(), load_digits()
    results = []
    for path in sorted(options.models.glob("*.pt")):
        results.append(study(path, digits, options.epochs))
        print(row(results[-1]), file=sys.stderr, flush=True)
    print(table(results))
    record = {
        "epochs": options.epochs,
        "trains_from_accuracy": TRAINS,
        "machine": machine(),
        "seconds": round(time.perf_counter() - started, 1),
        "networks": results,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

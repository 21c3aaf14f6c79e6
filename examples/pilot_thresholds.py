"""Where should a score pass, warn or fail? A pilot on 240 random networks and the digits.

Each network is a chain of equal layers drawn at random: activation, weight ensemble, gain (half to
twice critical), depth (3 to 60) and number of logits (64 or 10). Its score at the start is the
mean over three training digits. It *trains* if it reaches 70 % test accuracy within three epochs at
the best of thirteen learning rates, chosen by training loss. The even networks are to choose
thresholds with, the odd ones to check them on.

Run ``python examples/pilot_thresholds.py`` (some minutes on two cores).
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils import skip_init

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from examples.singular_values import mean_shape
from examples.train_digits import RESULTS, Digits, best, finite, fit, load_digits, machine

WIDTH = 64
TRAINS = 0.70
EPOCHS = 3
RATES = tuple(float(f"{rate:.2g}") for rate in np.logspace(-6, 0, 13))
EDGES = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU}


@dataclass(frozen=True)
class Recipe:
    """All that is needed to build one network of the pilot."""

    index: int
    activation: str
    ensemble: str  # "gaussian" or "orthogonal"
    gain: float  # sigma_w over its critical value
    depth: int  # number of linear layers
    outputs: int


def critical_gain(activation: str) -> float:
    """``sigma_w`` at which ``sigma_w^2 E phi'(h)^2 = 1``, for inputs of second moment 1.

    tanh is critical without biases at variance 0 only, where sigma_w = 1; ReLU at every variance;
    for GELU h is taken of variance 1, a variance that deep layers need not keep.
    """
    if activation == "tanh":
        return 1.0
    if activation == "relu":
        return 2**0.5
    nodes, weights = np.polynomial.hermite_e.hermegauss(101)
    h = torch.tensor(nodes, requires_grad=True)
    (slope,) = torch.autograd.grad(nn.functional.gelu(h).sum(), h)
    return float((weights @ slope.numpy() ** 2 / weights.sum()) ** -0.5)


def recipes(count: int, seed: int = 0) -> list[Recipe]:
    """Random recipes: depth log-uniform, log gain denser near critical than far from it."""
    rng = np.random.default_rng(seed)

    def draw(index: int) -> Recipe:
        u = rng.uniform(-1, 1)
        return Recipe(
            index,
            activation=str(rng.choice(list(ACTIVATIONS))),
            ensemble=str(rng.choice(["gaussian", "orthogonal"])),
            gain=float(2.0 ** (u * abs(u) ** 0.5)),
            depth=round(float(3 * 20 ** rng.uniform())),
            outputs=int(rng.choice([64, 10])),
        )

    return [draw(index) for index in range(count)]


def build(recipe: Recipe) -> nn.Sequential:
    """The network of a recipe: no biases at the start, and a head like any other layer."""
    generator = torch.Generator().manual_seed(1000 + recipe.index)
    sigma = recipe.gain * critical_gain(recipe.activation)
    modules: list[nn.Module] = []
    for layer_index in range(recipe.depth):
        last = layer_index == recipe.depth - 1
        layer = skip_init(nn.Linear, WIDTH, recipe.outputs if last else WIDTH)
        if recipe.ensemble == "orthogonal":
            nn.init.orthogonal_(layer.weight, gain=sigma, generator=generator)
        else:
            nn.init.normal_(layer.weight, std=sigma / WIDTH**0.5, generator=generator)
        nn.init.zeros_(layer.bias)
        modules += [layer] if last else [layer, ACTIVATIONS[recipe.activation]()]
    return nn.Sequential(*modules)


def measure(recipe: Recipe, digits: Digits) -> dict[str, object]:
    """Spectrum at the start and best training run of one network."""
    model = build(recipe)
    shape = mean_shape(model, digits.x[:3])
    chosen = best(fit(model, digits, rate, EPOCHS) for rate in RATES)
    return {
        **asdict(recipe),
        **{key: finite(value) for key, value in asdict(shape).items()},
        "accuracy": chosen.accuracy,
        "rate": chosen.rate,
        "loss": finite(chosen.loss),
        "trains": chosen.accuracy >= TRAINS,
    }


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, ties sharing their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation."""
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def roc_auc(score: np.ndarray, trains: np.ndarray) -> float:
    """Chance that a network that trains scores above one that does not, ties counted half."""
    above = score[trains][:, None] - score[~trains][None, :]
    return float(np.mean((np.sign(above) + 1) / 2))


def bins(score: np.ndarray, trains: np.ndarray) -> list[dict[str, float]]:
    """How many networks trained in each interval of the score."""
    where = np.digitize(score, EDGES[1:-1])
    return [
        {
            "from": EDGES[i],
            "to": EDGES[i + 1],
            "networks": int((where == i).sum()),
            "trained": int(trains[where == i].sum()),
        }
        for i in range(len(EDGES) - 1)
    ]


def column(results: list[dict[str, object]], key: str) -> np.ndarray:
    """One measure of every network; what is not a number is as bad as can be."""
    return np.array([np.inf if result[key] is None else result[key] for result in results])


def summary(results: list[dict[str, object]]) -> dict[str, object]:
    """Correlations, AUCs and bins of one set of networks."""
    accuracy, trains = column(results, "accuracy"), column(results, "trains").astype(bool)
    measures = {
        "score": column(results, "score"),
        "rescaled": column(results, "rescaled"),
        "minus_abs_drift": -np.abs(column(results, "drift")),
        "minus_spread": -column(results, "spread"),
        "minus_depth": -column(results, "depth"),
    }
    return {
        "networks": len(results),
        "trained": int(trains.sum()),
        "spearman_with_accuracy": {k: spearman(v, accuracy) for k, v in measures.items()},
        "roc_auc": {k: roc_auc(v, trains) for k, v in measures.items()},
        "bins": bins(measures["score"], trains),
    }


def print_summary(name: str, part: dict[str, object]) -> None:
    """Print one set of networks as Markdown."""
    print(f"\n{name}: {part['trained']} of {part['networks']} train\n")
    print("| measure | Spearman with accuracy | ROC AUC |\n|---|---|---|")
    for key, auc in part["roc_auc"].items():
        print(f"| {key} | {part['spearman_with_accuracy'][key]:.3f} | {auc:.3f} |")
    print("\n| score | networks | trained |\n|---|---|---|")
    for row in part["bins"]:
        print(f"| {row['from']:g} to {row['to']:g} | {row['networks']} | {row['trained']} |")


def main() -> None:
    """Measure the networks, print the summary, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--out", type=Path, default=RESULTS / "pilot_thresholds.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started, digits = time.perf_counter(), load_digits()
    results = []
    for recipe in recipes(options.count):
        results.append(measure(recipe, digits))
        print(results[-1], file=sys.stderr, flush=True)
    parts = {
        "even": summary(results[0::2]),
        "odd, held out": summary(results[1::2]),
        "all": summary(results),
    }
    for name, part in parts.items():
        print_summary(name, part)
    record = {
        "trains_from_accuracy": TRAINS,
        "epochs": EPOCHS,
        "rates": RATES,
        "machine": machine(),
        "seconds": round(time.perf_counter() - started, 1),
        **parts,
        "battery": results,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

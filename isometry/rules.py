"""The stable codes of findings, and what `isometry rule CODE` says about each."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from isometry.errors import InputError


@dataclass(frozen=True)
class Rule:
    """A code, what it means and what to do about it.

    Attributes
    ----------
    code : str
        Stable.
    title : str
        What is the case, in a few words.
    explanation : str
        What that means.
    remedy : str
        What to do about it.
    evidence : str
        For a test of the self-check, what it found; errors go where the braces are.
    """

    code: str
    title: str
    explanation: str
    remedy: str
    evidence: str = ""


_RULES = (
    Rule(
        "ISO101",
        "signals vanish",
        "The gain √E[σ²] is well below one: signals shrink on their way through the network, "
        "by about the same factor per layer, and so do gradients on their way back. The learning "
        "rate makes up for it in a shallow network, seldom in a deep one.",
        "Raise the weights to the critical variance of the activation (σ_w² E[φ′²] = 1).",
    ),
    Rule(
        "ISO102",
        "signals explode",
        "The gain √E[σ²] is well above one: signals grow on their way through the network, and "
        "so do gradients on their way back. A deep network then needs a learning rate so small "
        "that it learns little; a shallow one may train with a tuned rate.",
        "Lower the weights to the critical variance of the activation (σ_w² E[φ′²] = 1), or scale "
        "residual branches by 1/√L.",
    ),
    Rule(
        "ISO103",
        "singular values are spread out",
        "Some directions grow while others shrink, although their mean may be healthy. Gradients "
        "of different directions differ by the same factor, so no learning rate suits them all: "
        "that needs tuning or normalisation, though a shallow network may train anyway. Gaussian "
        "weights do this at every depth, orthogonal ones far less.",
        "Use orthogonal weights at criticality and a smooth activation started near its linear "
        "range, or residual branches scaled by 1/√L.",
    ),
    Rule(
        "ISO104",
        "directions are dead",
        "Activations with a flat part (ReLU and its relatives) block these directions "
        "completely: their singular values are exactly zero. About half is normal for ReLU "
        "and orthogonal weights cannot avoid it.",
        "Use a smooth or leaky activation, or skip connections, if the score matters.",
    ),
    Rule(
        "ISO105",
        "directions are below the resolution",
        "Floating point resolves singular values down to about eps·σ_max, random probes with k "
        "steps down to about σ_max/k. These lie below, and how small they are is not known.",
        "Nothing to do if other findings explain them; in a chain of layers --method product "
        "resolves them; with probes, take --method exact or more --steps, and measure in float64 "
        "if it was not.",
    ),
    Rule(
        "ISO106",
        "inputs disagree",
        "The score differs much between inputs: the network treats some regions of its input "
        "space differently.",
        "Measure more samples, and look at the inputs with the lowest score.",
    ),
    Rule(
        "ISO107",
        "one direction",
        "One input, one output or a layer of width one lets a single direction through: one "
        "singular value, the norm of a gradient. Isometry over one direction says little about "
        "training.",
        "Measure the network on one side of its narrowest layer (--start, --stop).",
    ),
    Rule(
        "ISO108",
        "running statistics are untouched",
        "The running mean and variance of a BatchNorm are still 0 and 1, as made: in evaluation "
        "mode it normalises nothing. In training it takes the statistics of the batch, and the "
        "network is another one.",
        "Take --train-mode (train_mode=True) on a batch, which shows what training sees, or "
        "measure after some steps of training.",
    ),
    Rule(
        "ISO201",
        "the input sits on a kink",
        "At this very input the network is not differentiable (a ReLU at exactly zero, two equal "
        "values under a maximum): the derivative used by training is one of several.",
        "Take another input, or add a little noise to this one, to see how much it matters.",
    ),
    Rule(
        "ISO301",
        "the network is random, or changes its own state",
        "Two forward passes at the same input gave different outputs: something in forward is "
        "random or changes the network's own state, so no derivative is well defined.",
        "Switch the randomness off (dropout inside forward, noise layers, sampling).",
        "two forward passes differ",
    ),
    Rule(
        "ISO302",
        "forward and backward derivatives disagree",
        "Products with J by forward mode and with Jᵀ by reverse mode are not adjoint to each "
        "other: at least one is wrong. PyTorch does this in known cases, custom backward "
        "functions in others.",
        "Look for custom autograd functions and no_grad or detach in forward; report the case.",
        "relative error {modes:.2g} between the two modes",
    ),
    Rule(
        "ISO303",
        "the derivative disagrees with finite differences",
        "The central difference in float64 is not what automatic differentiation says: code in "
        "forward hides dependence from it (no_grad, detach, .data, .item(), rounding, "
        "quantisation), or a backward function is wrong.",
        "Take what hides the dependence out of forward, mend the backward function, or measure a "
        "part of the network beside it (--start, --stop).",
        "relative error {difference:.2g}",
    ),
    Rule(
        "ISO304",
        "the precision is too low to tell",
        "The network runs in half precision only, where rounding hides an error of any size "
        "in its derivative: neither the derivative nor its singular values can be checked.",
        "Let the network run in float32: remove fixed casts to half precision from forward.",
        "rounding hides any error",
    ),
    Rule(
        "ISO305",
        "there is no derivative but by finite differences",
        "No route of automatic differentiation runs through this network: it leaves PyTorch (for "
        "NumPy, or an operator without derivative). The spectrum is of central differences, which "
        "nothing checks.",
        "Write that part of forward in PyTorch, or measure around it (--start, --stop).",
        "automatic differentiation fails or is wrong by every route",
    ),
    Rule(
        "ISO306",
        "products in a block differ from products one by one",
        "A row of the Jacobian taken in a block is not the row taken by itself, and the central "
        "difference is too noisy to say which is right. An operator has a wrong rule for vmap.",
        "Measure in float64 (--dtype float64), or report the operator to its authors.",
        "relative error {loop:.2g}",
    ),
    Rule(
        "ISO307",
        "the output does not depend on the input differentiably",
        "Every product with J is zero: the output is constant around this input. All units of a "
        "layer are dead, forward detaches, rounds or quantises, or a deep network underflows.",
        "Look for dead units, a constant or a step function, which make J = 0; try another input, "
        "or measure around the part that cuts the dependence off.",
        "every product is zero",
    ),
    Rule(
        "ISO401",
        "neighbouring weights line up",
        "The free product of a network's parts assumes that the singular vectors of one weight "
        "know nothing of the next one's. Here what one layer makes large is what the next one "
        "amplifies (z > 0), or stops (z < 0), by more than chance: z has mean 0 and standard "
        "deviation 1 between independent random weights. Training does this, and the spectrum "
        "of the product then departs from what its parts predict.",
        "Nothing to do in a trained network; in a fresh one, look at how the two were initialised.",
    ),
    Rule(
        "ISO402",
        "a weight is off its siblings' scale",
        "The scale σ_w of this weight, by the root mean square of its entries, differs from that "
        "of the other weights of its shape by more than their own differences allow. Where fewer "
        "than three have its shape, random weights of its kind are compared over all shapes, by "
        "whatever scale the others have in common; of two, the larger is named. Signals grow or "
        "shrink there by that factor.",
        "Look at how this layer is initialised, or scale it to its siblings' σ_w; first and last "
        "layers may be meant to differ.",
    ),
    Rule(
        "ISO403",
        "a weight has an outlier",
        "The largest singular value sticks out of those of a random matrix of this shape, by more "
        "than its own fluctuations allow: one direction is amplified that the rest of the matrix "
        "knows nothing of. Training makes such outliers, where a signal was learnt; in a fresh "
        "network something else put it there (a mean of the entries that is not zero, for one).",
        "In a fresh network, look at how this layer is initialised; spectral normalisation "
        "removes it.",
    ),
    Rule(
        "ISO404",
        "units are off for good",
        "Many more units of this layer than of its siblings (without siblings: than chance would "
        "have it) let nothing through at any input of the size that was measured: their weights "
        "are zero, or their bias keeps them where the activation is flat. They add nothing, and "
        "gradient descent cannot bring them back.",
        "Initialise these units again, with biases near zero.",
    ),
    Rule(
        "ISO405",
        "weights are shared, or copies of each other",
        "One weight is used several times, as recurrence and tied layers do, or two have the same "
        "singular values to the last digit: layers were copied after they were drawn, as "
        "torch.nn.TransformerEncoder does with the layer that it is given. Such layers amplify "
        "the same directions again and again, which no theory of independent layers describes.",
        "Where no sharing is meant, initialise each layer anew.",
    ),
)


def all_rules() -> tuple[Rule, ...]:
    """Return every rule, in the order of the codes."""
    return _RULES


def rule(code: str) -> Rule:
    """Return the rule with this code; an unknown one raises `InputError` with the nearest."""
    known = {r.code: r for r in _RULES}
    if (found := known.get(code.upper())) is not None:
        return found
    near = difflib.get_close_matches(code.upper(), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known codes: {', '.join(known)}"
    raise InputError(f"no rule is called {code!r}: {hint}")

"""Singular values of an input-output Jacobian, the plain way: build the matrix, take its SVD.

Written apart from the library on purpose, so that the study in this folder does not lean on what
it is a study of.
"""

import copy
import math
from dataclasses import astuple, dataclass

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class Shape:
    """What the singular values of one Jacobian look like.

    Attributes
    ----------
    score : float
        Mean of ``2 / (s^2 + s^-2)`` over ``min(n_in, n_out)`` directions; zeros contribute 0, and
        so do values below the SVD's floor, which are noise.
    rescaled : float
        The same after dividing by the geometric mean of the values that are resolved: what is
        left when one scale for the whole network is forgiven.
    drift : float
        Mean of ``log s`` over the values that double precision resolves. Not divided by depth.
    spread : float
        Standard deviation of the same.
    unresolved : float
        Fraction of the values below the SVD's floor, exact zeros among them.
    """

    score: float
    rescaled: float
    drift: float
    spread: float
    unresolved: float


def singular_values(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    """Singular values, in double precision, of the Jacobian at one input ``x`` of shape (n,)."""
    twin = copy.deepcopy(model).double().eval()
    jacobian = torch.func.jacrev(lambda v: twin(v[None])[0])(x.double())
    return torch.linalg.svdvals(jacobian.detach()).numpy()


def resolved(sigma: np.ndarray) -> np.ndarray:
    """The values above the SVD's floor, ``len(sigma) * eps * max(sigma)``."""
    floor = len(sigma) * np.finfo(float).eps * sigma.max(initial=0.0)
    return sigma[sigma > max(floor, np.finfo(float).tiny)]


def score(logs: np.ndarray, directions: int) -> float:
    """Sum of ``sech(2 log s) = 2 / (s^2 + s^-2)`` over the number of directions."""
    decay = np.exp(-2 * np.abs(logs))  # sech without overflow
    return float(np.sum(2 * decay / (1 + decay**2)) / directions)


def shape(sigma: np.ndarray) -> Shape:
    """Summarise the singular values of one Jacobian; drift and spread of none are not numbers."""
    logs, count = np.log(resolved(sigma)), len(sigma)
    if not len(logs):
        return Shape(0.0, 0.0, math.nan, math.nan, 1.0)
    drift = float(logs.mean())
    unresolved = 1 - len(logs) / count
    rescaled = score(logs - drift, count)
    return Shape(score(logs, count), rescaled, drift, float(logs.std()), unresolved)


def mean_shape(model: nn.Module, inputs: torch.Tensor) -> Shape:
    """The mean of every measure over ``inputs`` of shape (count, n)."""
    shapes = [shape(singular_values(model, x)) for x in inputs]
    columns = np.array([astuple(one) for one in shapes])
    return Shape(*(float(value) for value in columns.mean(axis=0)))

"""Convolutions as operators: their singular values by two roads, and seeds."""

import pytest
import torch

import isometry

CONVOLUTIONS = {
    (1, False): torch.nn.Conv1d,
    (2, False): torch.nn.Conv2d,
    (3, False): torch.nn.Conv3d,
    (1, True): torch.nn.ConvTranspose1d,
    (2, True): torch.nn.ConvTranspose2d,
    (3, True): torch.nn.ConvTranspose3d,
}


@pytest.fixture(scope="session")
def seeded():
    """A generator of that seed."""
    return lambda seed=0: torch.Generator().manual_seed(seed)


@pytest.fixture(scope="session")
def convolution():
    """A convolution without bias in float64."""

    def make(dimensions, *sizes, transposed=False, **options):
        layer = CONVOLUTIONS[dimensions, transposed]
        return layer(*sizes, bias=False, dtype=torch.float64, **options)

    return make


@pytest.fixture(scope="session")
def dense_values():
    """Singular values of a layer on images of that shape, by its dense Jacobian."""

    def of(layer, *image):
        x = torch.zeros(1, *image, dtype=torch.float64)
        return torch.linalg.svdvals(isometry.Jacobian(layer, x).dense())

    return of


@pytest.fixture(scope="session")
def fourier_values():
    """Singular values of a circular convolution of stride 1, frequency by frequency."""

    def of(weight, *image):
        axes = range(2, weight.ndim)
        padded = weight.new_zeros(*weight.shape[:2], *image)
        padded[tuple(slice(0, n) for n in weight.shape)] = weight.detach()
        hat = torch.fft.fftn(padded, dim=tuple(axes)).flatten(2).movedim(-1, 0)
        return torch.linalg.svdvals(hat).flatten().sort(descending=True).values

    return of


@pytest.fixture(scope="session")
def levels():
    """How many singular values there are of each size, largest first: [(σ, count), ...]."""

    def of(values):
        found = {}
        for v in values.tolist():
            nearest = next((k for k in found if abs(k - v) < 1e-12), v)
            found[nearest] = found.get(nearest, 0) + 1
        return [(pytest.approx(k, abs=1e-12), n) for k, n in sorted(found.items(), reverse=True)]

    return of

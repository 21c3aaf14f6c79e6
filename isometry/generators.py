"""The random generators of the process, which the user's own code draws from."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let every global generator draw from a seed, and put each back where it was."""
    numpy: Any = np.random
    cuda: Any = torch.cuda
    python, legacy, in_use = random.getstate(), numpy.get_bit_generator(), cuda.is_initialized()
    with torch.random.fork_rng(devices=range(cuda.device_count()) if in_use else ()):
        try:
            numpy.set_bit_generator(np.random.MT19937())  # set aside whole, of whatever kind
            numpy.seed(seed % 2**32)
            random.seed(seed)
            torch.manual_seed(seed)
            yield
        finally:
            numpy.set_bit_generator(legacy)
            random.setstate(python)
            if not in_use:
                cuda.seed_all()  # a first use later must not draw what was drawn here

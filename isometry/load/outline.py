"""Tensors without their values: every size is checked, and no weight is read."""

from __future__ import annotations

from typing import Any

import torch

from isometry.load.archive import Archive
from isometry.load.tensors import Tensors


class Outlines(Tensors):
    """Rebuilds tensors on the meta device.

    Parameters
    ----------
    archive : Archive or None
        The screened archive; without one, sizes are taken as the pickle states them.
    folder : str
        Its one top folder, with the slash.
    """

    def __init__(self, archive: Archive | None, folder: str) -> None:
        """Check the byte order, where an archive states one."""
        self._without_archive = archive is None
        if archive is None:
            self._built = {}
        else:
            super().__init__(archive, folder)

    def _check_record(self, record: str, held: int, where: str) -> None:
        if not self._without_archive:
            super()._check_record(record, held, where)

    def _strided(
        self, record: str, held: int, dtype: torch.dtype, layout: tuple[int, Any, Any]
    ) -> torch.Tensor:
        _, size, stride = layout
        return torch.empty_strided(size, stride, dtype=dtype, device="meta")

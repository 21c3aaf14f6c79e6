"""What a network does to signals, block by block: the record of `isometry.layers`."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from isometry import codec
from isometry.errors import LoadError
from isometry.report import Finding, InputInfo, ModelInfo, Provenance
from isometry.score import QUANTILES, isometry_score
from isometry.spectrum import Spectrum

SCHEMA_VERSION, KIND = 1, "layers"


@dataclass(frozen=True)
class Summary:
    """A spectrum in a few numbers, logarithms natural.

    Attributes
    ----------
    log_gain : float
        log √E[σ²] over all directions.
    drift, spread : float
        Mean and standard deviation of log σ over the resolved directions.
    dead, unresolved : float
        Masses of the directions with σ = 0, and of those with σ below the floor.
    score : float
        E[sech(2 log σ)]; 1 is an isometry.
    log_largest : float
        log σ_max; -∞ where no direction is resolved.
    log_quantiles : tuple of float
        log σ_p for p in `score.QUANTILES`; -∞ within the dead and unresolved mass.
    log_floor : float
        log σ below which nothing is known.
    """

    log_gain: float
    drift: float
    spread: float
    dead: float
    unresolved: float
    score: float
    log_largest: float
    log_quantiles: tuple[float, ...]
    log_floor: float

    @classmethod
    def of(cls, spectrum: Spectrum) -> Summary:
        """Sum up a spectrum."""
        return cls(
            spectrum.log_root_mean_square,
            spectrum.mean_log,
            spectrum.std_log,
            spectrum.dead,
            spectrum.unresolved,
            isometry_score(spectrum),
            float(spectrum.log_sigma[0]) if len(spectrum.log_sigma) else -math.inf,
            tuple(map(float, spectrum.quantile(QUANTILES))),
            spectrum.log_floor,
        )


@dataclass(frozen=True)
class Layer:
    """One block on the way from the input to the output, and what lies before and behind it."""

    name: str
    kind: str  # as `anatomy.Block` has it
    shape: tuple[int, int]  # (m, n) of its Jacobian
    own: Summary  # of the block alone
    mean_square: float  # of the signal behind it
    log_gain: float  # from the input to behind it
    log_gain_error: float  # standard error, 0 where it is exact
    onward: float  # log gain from before it to the output
    onward_error: float
    cumulative: Summary | None = None  # from the input to behind it, where it was looked at
    expected: tuple[float, ...] = ()  # log σ_p by theory, p in `score.QUANTILES`

    @property
    def mixes(self) -> bool:
        """Whether it is a layer by itself, and no companion of one."""
        return self.kind in ("weight", "sum", "opaque")

    @property
    def loss(self) -> float:
        """What it takes from the isometry: |drift| + spread² + dead share, of the block alone.

        Drift and spread² of a product of square factors are sums over factors free of each other.
        """
        known = self.own.dead + self.own.unresolved < 1
        return self.own.dead + (abs(self.own.drift) + self.own.spread**2 if known else 0.0)


@dataclass(frozen=True)
class Rate:
    """By how much a logarithm grows from one layer to the next."""

    quantity: str  # "log gain" or "mean log σ"
    measured: float
    error: float  # standard error, if steps from layer to layer are independent
    expected: float | None  # by theory


@dataclass(frozen=True)
class DepthProfile:
    """A network from the input to the output, block by block; survives JSON unchanged.

    Attributes
    ----------
    model : ModelInfo
    input : InputInfo
    mean_square : float
        Of the input.
    layers : tuple of Layer
        In order.
    rates : tuple of Rate
        Per layer, that is per block that is a weight, a sum or opaque; none for fewer than three.
    theory : str
        Where the expected quantiles and rates come from; empty where there are none.
    conclusions : tuple of str
        Sentences: what becomes of signals, and which block is to blame.
    findings : tuple of Finding
        Weights unlike their siblings, or lined up with their neighbours.
    notes : tuple of str
    provenance : Provenance
    """

    model: ModelInfo
    input: InputInfo
    mean_square: float
    layers: tuple[Layer, ...]
    rates: tuple[Rate, ...]
    theory: str
    conclusions: tuple[str, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    provenance: Provenance

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; `from_dict` restores an equal record."""
        return {"schema_version": SCHEMA_VERSION, "kind": KIND, **codec.encode(self)}

    @classmethod
    def from_dict(cls, data: object) -> DepthProfile:
        """Restore a record.

        Raises
        ------
        LoadError
            If `data` is none, or one of another schema version.
        """
        if not isinstance(data, dict) or data.get("kind") != KIND:
            raise LoadError("this is no record of isometry layers: its kind is another, or missing")
        if (version := data.get("schema_version")) != SCHEMA_VERSION:
            raise LoadError(
                f"the record has schema version {version!r}, this release reads "
                f"{SCHEMA_VERSION}: run isometry layers again"
            )
        return codec.decode(cls, data)

    def to_json(self) -> str:
        """Return strict JSON text, ending in a newline."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False, ensure_ascii=False) + "\n"

    def __str__(self) -> str:
        return "\n".join(self.conclusions)

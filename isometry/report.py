"""The record of an analysis."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from isometry import codec
from isometry.ensemble import Ensemble
from isometry.errors import InputError, LoadError
from isometry.score import Score
from isometry.spectrum import Spectrum
from isometry.trust import SelfCheck
from isometry.uncertainty import Uncertainty

SCHEMA_VERSION = 2
#: What a verdict may be, and the colour it has wherever it is shown.
COLOURS = {"PASS": "#2e7d32", "WARN": "#b26a00", "FAIL": "#c62828", "WITHHELD": "#616161"}

# Natural logarithms of what float64 holds without loss of digits.
_SMALLEST, _LARGEST = -708.0, 709.0


@dataclass(frozen=True)
class ModelInfo:
    """The network that was measured."""

    name: str  # file name, reference or class
    kind: str  # "module", "whole module", "state dict", …
    parameters: int  # number of scalars
    weight_layers: int  # layers with a weight matrix or kernel
    activations: tuple[str, ...]  # distinct ones, as their classes are called
    sha256: str | None = None  # of the file, when it came from one


@dataclass(frozen=True)
class InputInfo:
    """The input at which it was measured."""

    source: str  # "given", "Gaussian noise" or a file name
    shape: tuple[int, ...]  # of one input, batch dimension included
    samples: int  # inputs measured
    rms: float  # root mean square of all entries


@dataclass(frozen=True)
class JacobianInfo:
    """The operator whose singular values were taken."""

    shape: tuple[int, int]  # (m, n): outputs by inputs
    rank: int  # r: directions that shape allows, min(m, n, narrowest layer)
    dtype: str
    device: str
    self_check: SelfCheck | None  # of the worst input; None when it was switched off


@dataclass(frozen=True)
class Judgement:
    """Whether a distance from a theory is far: "agrees", "finite-width effect" or "departs"."""

    word: str
    reason: str  # the number behind the word
    allowed: float = math.nan  # Kolmogorov–Smirnov distance that is chance


@dataclass(frozen=True)
class Difference:
    """By how much a measured number differs from a predicted one, and how much is chance."""

    name: str
    value: float
    allowed: float

    @property
    def is_chance(self) -> bool:
        """Whether it may be chance."""
        return abs(self.value) <= self.allowed


@dataclass(frozen=True)
class Prediction:
    """A theoretical law for this network, on a grid."""

    name: str  # what it assumes
    law: str  # which law
    score: float  # I of the law
    std_log_sigma: float  # given σ > 0
    mean_log_sigma: float  # given σ > 0
    atoms: tuple[tuple[float, float], ...]  # (σ, mass)
    grid: tuple[float, ...]  # log σ, natural
    cdf: tuple[float, ...]  # atoms included
    density: tuple[float, ...]  # per unit log σ, atoms excluded
    ks: float  # Kolmogorov–Smirnov distance of the measured spectrum
    judgement: Judgement | None = None  # None in reports of versions that did not judge
    differences: tuple[Difference, ...] = ()  # beyond the distance, number by number

    def __post_init__(self) -> None:
        if not len(self.grid) == len(self.cdf) == len(self.density):
            raise InputError("a prediction needs a CDF and a density at every point of its grid")
        if not all(map(math.isfinite, (*self.grid, *self.density, *sum(self.atoms, ())))):
            raise InputError("the grid, the density and the atoms of a prediction must be finite")
        if not all(-1e-6 < mass < 1 + 1e-6 for _, mass in self.atoms):
            raise InputError("the mass of an atom must lie in [0, 1]")


@dataclass(frozen=True)
class Verdict:
    """PASS, WARN, FAIL, or WITHHELD when the measurement cannot be trusted."""

    status: str
    reason: str

    def __post_init__(self) -> None:
        if self.status not in COLOURS:
            raise InputError(f"a verdict is one of {', '.join(COLOURS)}, got {self.status!r:.60}")


@dataclass(frozen=True)
class Finding:
    """One thing that is worth knowing, with the way to mend it."""

    code: str  # stable; `isometry rule CODE` explains it
    severity: str  # "error", "warning" or "note"
    message: str
    where: str
    fix: str


@dataclass(frozen=True)
class Provenance:
    """What it takes to get the same numbers again."""

    version: str
    torch: str
    seed: int
    seconds: float


@dataclass(frozen=True)
class Report:
    """Everything that one analysis found; prints itself, and survives JSON unchanged."""

    model: ModelInfo
    input: InputInfo
    jacobian: JacobianInfo
    spectrum: Spectrum
    score: Score
    theory: tuple[Prediction, ...]
    verdict: Verdict
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    provenance: Provenance
    uncertainty: Uncertainty | None = None  # of an estimated spectrum
    inputs: Ensemble | None = None  # one by one, where there are several
    seeds: Ensemble | None = None  # initialisations one by one, where there are several
    band: Ensemble | None = None  # twins: the same weights, turned at random
    schema_version: int = SCHEMA_VERSION

    @property
    def trustworthy(self) -> bool:
        """Whether the self-check passed (or was switched off)."""
        return self.verdict.status != "WITHHELD"

    @property
    def headline(self) -> str:
        """The reason of the verdict, with the score where it may be relied on."""
        score = f" (score {self.score.value:.3g})" if self.trustworthy else ""
        return f"{self.verdict.reason}{score}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; `from_dict` restores an equal report.

        Beside the logarithms stand `singular_values` and `floor`, which it does not read.
        """
        found = {"schema_version": self.schema_version, **codec.encode(self)}
        for name in ("singular_values", "floor"):
            found["spectrum"][name] = codec.encode(getattr(self.spectrum, name))
        return found

    @classmethod
    def from_dict(cls, data: object) -> Report:
        """Restore a report.

        Raises
        ------
        LoadError
            If `data` is not a report, or one of another schema version.
        """
        version = data.get("schema_version") if isinstance(data, dict) else None
        if version is None:
            raise LoadError("this is not an isometry report: it has no schema_version")
        if version != SCHEMA_VERSION:
            raise LoadError(
                f"the report has schema version {version!r}, this release reads "
                f"{SCHEMA_VERSION}: analyse the model again"
            )
        return codec.decode(cls, data)

    def to_json(self) -> str:
        """Return strict JSON text, ending in a newline."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Restore a report from JSON text."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as e:
            raise LoadError(f"this is not an isometry report: it is not JSON ({e})") from e
        return cls.from_dict(data)

    def __str__(self) -> str:
        from isometry import render

        return render.text(self)

    def _repr_html_(self) -> str:
        from isometry import render

        return render.html(self)


def percent(share: float) -> str:
    """Write a share of the directions; neither a few nor all but a few are rounded away."""
    if 0 < share < 0.005:
        return "<1%"
    # Sums of weights that are all there may end an ulp or so below one.
    return ">99%" if 0.995 <= share < 1 - 1e-9 else f"{share:.0%}"


def power(exponent: float, digits: int = 3) -> str:
    """Write e^exponent in so many digits, also where it leaves the range of float64."""
    if not _SMALLEST < exponent < _LARGEST and math.isfinite(exponent):
        decades, fraction = divmod(exponent / math.log(10), 1)
        mantissa, carried = f"{10**fraction:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(decades) + int(carried):+03d}"
    return f"{math.exp(exponent):.{digits}g}"

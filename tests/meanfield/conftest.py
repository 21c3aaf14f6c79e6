"""The reference table, and activations stripped of their closed forms."""

import dataclasses
import json
from pathlib import Path

import pytest

from isometry.meanfield import activation

_TABLE = Path(__file__).parents[2] / "data" / "reference" / "mean_field_10_1.json"
_KEYS = {
    "at_sigma_b": "critical_at_sigma_b",
    "at_q_star": "critical_at_q_star",
    "off_critical": "fixed_points",
}


def pytest_generate_tests(metafunc):
    for fixture, key in _KEYS.items():
        if fixture in metafunc.fixturenames:
            rows = json.loads(_TABLE.read_text(encoding="utf-8"))[key]
            names = ["-".join(list(map(str, row.values()))[:3]) for row in rows]
            metafunc.parametrize(fixture, rows, ids=names)


@pytest.fixture(scope="session")
def by_quadrature():
    """The activation of that name without its closed forms, one object for each name."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = dataclasses.replace(activation(name), closed=None)
        return made[name]

    return of

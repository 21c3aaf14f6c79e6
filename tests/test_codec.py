"""Records to JSON and back."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from isometry import LoadError, Spectrum
from isometry.codec import decode, encode


@dataclass(frozen=True)
class Inner:
    number: float
    flag: bool = True


@dataclass(frozen=True, eq=False)
class Outer:
    name: str
    count: int
    maybe: float | None
    inner: Inner | None
    pairs: tuple[tuple[float, int], ...]
    fixed: tuple[int, str]
    array: NDArray[np.float64]


def same(a, b):
    """Equality that holds for NaN and tells 1 from 1.0 and from True."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and np.array_equal(a, b, equal_nan=True)
    if isinstance(a, tuple):
        return type(b) is tuple and len(a) == len(b) and all(map(same, a, b))
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and all(same(x, vars(b)[k]) for k, x in vars(a).items())
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and a == b and (a != 0 or str(a) == str(b))


inner = st.builds(Inner, number=st.floats(), flag=st.booleans())
outer = st.builds(
    Outer,
    name=st.text(),
    count=st.integers(),
    maybe=st.none() | st.floats(),
    inner=st.none() | inner,
    pairs=st.lists(st.tuples(st.floats(), st.integers())).map(tuple),
    fixed=st.tuples(st.integers(), st.text()),
    array=st.lists(st.floats()).map(lambda v: np.array(v, dtype=float)),
)


def through_json(kind, value):
    text = json.dumps(encode(value), allow_nan=False)
    return decode(kind, json.loads(text))


@given(outer)
def test_a_record_survives_json_unchanged(value):
    assert same(through_json(Outer, value), value)


@given(outer)
def test_what_is_encoded_is_plain_json(value):
    def plain(v):
        if isinstance(v, dict):
            return all(type(k) is str and plain(x) for k, x in v.items())
        if isinstance(v, list):
            return all(map(plain, v))
        return v is None or type(v) in (str, int, bool) or (type(v) is float and math.isfinite(v))

    assert plain(encode(value))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_numbers_that_json_lacks_are_words(value):
    text = json.dumps(encode(Inner(value)), allow_nan=False)
    assert json.loads(text)["number"] == str(value)
    assert same(through_json(Inner, Inner(value)), Inner(value))


def test_a_missing_field_with_a_default_takes_it():
    assert decode(Inner, {"number": 1}) == Inner(1.0)
    assert type(decode(Inner, {"number": 1}).number) is float


def test_unknown_fields_are_passed_over():
    assert decode(Inner, {"number": 1.0, "new": [1]}) == Inner(1.0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "report should be an object, got None"),
        ([], r"report should be an object, got \[\]"),
        ({}, "report.number is missing"),
        ({"number": "one"}, "report.number should be float, got 'one'"),
        ({"number": True}, "report.number should be float, got True"),
        ({"number": None}, "report.number should be float, got None"),
        ({"number": 10**400}, "report.number should be float, got 1000"),
        ({"number": 1.0, "flag": 1}, "report.flag should be bool, got 1"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(data, words):
    with pytest.raises(LoadError, match=f"the report is damaged: {words}"):
        decode(Inner, data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": 3}, "report.name should be str, got 3"),
        ({"count": 3.0}, "report.count should be int, got 3.0"),
        ({"count": True}, "report.count should be int, got True"),
        ({"maybe": "x"}, "report.maybe should be float"),
        ({"inner": {}}, "report.inner.number is missing"),
        ({"pairs": [[1.0, 2], [1.0, "2"]]}, r"report.pairs\[1\]\[1\] should be int, got '2'"),
        ({"pairs": [[1.0]]}, r"report.pairs\[0\] should have 2 entries"),
        ({"pairs": {}}, "report.pairs should be a list"),
        ({"fixed": [1]}, "report.fixed should have 2 entries"),
        ({"array": [1.0, "x"]}, "report.array should be float, got 'x'"),
    ],
)
def test_deep_places_are_named_too(change, words):
    good = encode(Outer("a", 1, None, None, ((1.0, 2),), (1, "b"), np.ones(2)))
    with pytest.raises(LoadError, match=words):
        decode(Outer, good | change)


def test_a_record_that_refuses_its_values_is_a_damaged_report():
    good = encode(Spectrum.of([1.0], [1.0]))
    with pytest.raises(LoadError, match="the report is damaged: report: singular values must be"):
        decode(Spectrum, good | {"log_sigma": [float("inf")]})


def test_long_values_are_cut_in_the_message():
    with pytest.raises(LoadError) as e:
        decode(Inner, {"number": "x" * 10_000})
    assert len(str(e.value)) < 200

"""``isometry layers``."""

import json

import pytest
from PIL import Image

from isometry import DepthProfile

NETS = """
from torch import nn


def deep(depth=12, width=32):
    return nn.Sequential(*[m for _ in range(depth) for m in (nn.Linear(width, width), nn.Tanh())])


def odd():
    net = nn.Sequential()
    net.add_module("[bold]a$b", nn.Linear(4, 4))
    net.add_module("c\\x1bd", nn.Linear(4, 4))
    return net
"""


@pytest.fixture(autouse=True)
def _nets(place):
    (place / "depth_nets.py").write_text(NETS)
    yield
    __import__("sys").modules.pop("depth_nets", None)


def test_the_table_has_a_row_for_every_block(isometry):
    ended = isometry("layers", "--model", "depth_nets:deep")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].startswith("signals vanish: they shrink by a factor of ")
    assert "every layer is alike: the 12 weights of 32 × 32" in ended.out
    rows = lines[lines.index("") + 2 :]
    assert [row.split()[0] for row in rows] == [str(i) for i in range(24)]
    assert rows[0].split()[1:5] == ["weight", "32", "×", "32"]
    assert "nan" not in ended.out


def test_a_long_table_leaves_out_its_middle(isometry):
    ended = isometry(
        "layers", "--model", "depth_nets:deep", "--kwargs", '{"depth": 40, "width": 4}'
    )
    assert "… 20 more (--json)" in ended.out
    rows = ended.out.splitlines()
    assert rows[-1].split()[0] == "79"


def test_the_record_as_json_and_the_figure(isometry, place):
    ended = isometry("layers", "--model", "depth_nets:deep", "--json", "-", "--plot", "d.png")
    found = DepthProfile.from_dict(json.loads(ended.out))
    assert len(found.layers) == 24
    assert found.model.name == "depth_nets:deep"
    assert ended.changed == ["d.png"]
    assert "figure: d.png" in ended.err
    with Image.open(place / "d.png") as picture:
        assert picture.size == (1200, 760)


def test_names_are_printed_as_they_are_and_nothing_else_is(isometry):
    ended = isometry("layers", "--model", "depth_nets:odd", "--plot", "d.svg")
    assert ended.code == 0
    assert "[bold]a$b" in ended.out
    assert "\x1b" not in ended.out
    assert r"'c\x1bd'" in ended.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "nothing to measure"),
        ("--model depth_nets:deep --samples 3", "cannot serve samples: leave that out"),
        ("--model depth_nets:deep --method exact --probes 3", "cannot serve method, probes"),
        ("--model depth_nets:deep --shape 7", "the first layer takes inputs of shape"),
        ("--model depth_nets:deep --start nowhere", "nowhere"),
        ("nothing.pt", "nothing.pt"),
    ],
)
def test_bad_questions_get_one_clear_line(refused, arguments, words):
    refused(2, words, "layers", *arguments.split())

"""Whatever bytes a file holds: no crash, no hang, no flood, and only the project's exceptions."""

import json
import random
import signal
import time

import pytest

from isometry.errors import IsometryError
from isometry.load import sniff
from tests.load.child import bounded
from tests.load.mutants import KINDS, Kind

SEED = 20_240
MEMORY = 1 << 30  # bytes above what the process had before
PER_FILE = 10  # seconds


def run(kind: Kind, cases: int, folder, seed: int = SEED) -> str:
    """Read `cases` changed files; return how many loaded, how many raised what, and the slowest."""
    files = kind.files()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    path, rng = folder / kind.target, random.Random(seed)
    kind.read(path)
    seen: dict[str, int] = {}
    slowest = 0.0
    for number in range(cases):
        path.write_bytes(kind.change(files[kind.target], rng))
        start = time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, PER_FILE)  # which ends the process
        outcome = _outcome(kind, path, number)
        signal.setitimer(signal.ITIMER_REAL, 0)
        slowest = max(slowest, time.perf_counter() - start)
        seen[outcome] = seen.get(outcome, 0) + 1
    return json.dumps({"seen": seen, "slowest": slowest})


def _outcome(kind: Kind, path, number: int) -> str:
    try:
        sniff(path)
        kind.read(path)
    except IsometryError as error:
        if not str(error).isprintable():
            raise AssertionError(f"case {number}: {str(error)!r}") from error
        return type(error).__name__
    return "loaded"


def test_there_are_twenty_thousand_cases():
    assert sum(kind.cases for kind in KINDS.values()) >= 20_000


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("name", KINDS)
def test_changed_files_raise_only_what_the_project_raises(name, tmp_path, request):
    kind = KINDS[name]
    # What is imported here is not imported under the limits, nor anew in each child.
    kind.files()
    if name == "Hugging Face config":
        request.getfixturevalue("libraries")
    ended = bounded(run, kind, kind.cases, tmp_path, memory=MEMORY, seconds=120)
    assert ended.how == "returned", ended
    seen = json.loads(ended.text)["seen"]
    assert sum(seen.values()) == kind.cases
    # Looking raises nothing; loading must have met damage, or the changes were too tame.
    assert seen.get("LoadError", 0) > kind.cases // 20 or set(seen) == {"loaded"}
    assert ended.growth < MEMORY


def test_a_crash_a_hang_and_a_flood_would_be_noticed(tmp_path):
    assert bounded(signal.raise_signal, signal.SIGKILL).how == "killed"
    assert bounded(time.sleep, 9, seconds=0.5).how == "no end"
    assert bounded(bytearray, 1 << 31, memory=MEMORY).error == "MemoryError"

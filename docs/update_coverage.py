"""Measure every case of tests/zoo, and write docs/coverage.json and docs/coverage.md from it.

python docs/update_coverage.py            # the quick cases; the rest stays as it was
python docs/update_coverage.py --all      # needs transformers, timm and torchvision
python docs/update_coverage.py recurrent  # those whose family or name matches
python docs/update_coverage.py --page     # only the page, from the numbers that are there
"""

from __future__ import annotations

import json
import logging
import re
import sys
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from isometry import Jacobian  # noqa: E402
from isometry.coverage.record import Check  # noqa: E402
from isometry.coverage.truth import Truth  # noqa: E402
from isometry.coverage.ways import BARE, IN_CONTEXT  # noqa: E402
from isometry.errors import IsometryError  # noqa: E402
from isometry.jacobian.products import first_line  # noqa: E402
from tests.zoo import CASES, by_name  # noqa: E402
from tests.zoo.answer import along_some, answer, tolerance, truth_of  # noqa: E402
from tests.zoo.case import Case  # noqa: E402
from tests.zoo.plain import bare  # noqa: E402

DATA, PAGE = ROOT / "docs/coverage.json", ROOT / "docs/coverage.md"
CREDIBLE = 1e-3
HEADS = {
    "in the context, vmap(vjp)": "v·vjp",
    "in the context, batched autograd.grad": "bag",
    "in the context, looped autograd.grad": "ag",
    "in the context, vmap(jvp)": "v·jvp",
    "in the context, vmap(vjp) of the pullback": "v·dv",
    "in the context, autograd.grad of the gradient": "dag",
    "in the context, central differences": "cd",
    "bare, vjp": "vjp",
    "bare, vmap(vjp)": "v·vjp",
    "bare, autograd.grad": "ag",
    "bare, is_grads_batched": "bag",
    "bare, jacrev": "jr",
    "bare, jvp": "jvp",
    "bare, vmap(jvp)": "v·jvp",
    "bare, double vjp": "dv",
    "bare, linearize": "lin",
}

Row = dict[str, Any]


# ------------------------------------------------------------------ measuring


def row(case: Case) -> Row:
    """Return what the operator and every way found; of the ways only what is not right."""
    truth = _credible_truth(case)
    found = answer(case, truth)
    ways = None if truth is None else _ways(case, truth)
    return {
        "case": case.name,
        "family": case.family,
        "outcome": found.outcome,
        "error": _two_digits(found.error),
        "words": found.words,
        "ways": ways and {c.name: _mark(c) for c in ways if c.outcome != "right"},
    }


def _credible_truth(case: Case) -> Truth | None:
    try:
        truth = truth_of(case)
    except Exception:  # of a case that is there to be refused
        return None
    return truth if truth.error <= CREDIBLE and torch.isfinite(truth.columns).all() else None


def _ways(case: Case, truth: Truth) -> list[Check] | None:
    """Try every way; none where there is no function yet, as for a lazy layer."""
    network, inputs = case.build(torch.float64)
    try:
        jacobian = Jacobian(network, inputs, **case.options, self_check=False)
    except IsometryError:
        return None
    with jacobian.session():
        f, x = jacobian.f, jacobian.x
        own = along_some(f, x) if case.own_mask else truth
        found = [way.tried("in the context", f, x, own, tolerance(case, own)) for way in IN_CONTEXT]
    return found + _bare(case, truth)


def _bare(case: Case, truth: Truth) -> list[Check]:
    allowed = tolerance(case, truth)
    with torch.random.fork_rng(devices=[]):
        return [way.tried("bare", *bare(case), truth, allowed) for way in BARE]


def _mark(check: Check) -> float | str | None:
    """Return an error, what was raised, or None where it was not run."""
    if check.outcome == "skipped":
        return None
    return _two_digits(check.error) if check.outcome == "WRONG" else check.detail


def _two_digits(error: float | None) -> float | None:
    return None if error is None else float(f"{error:.1e}")


def _measured(name: str) -> Row:
    warnings.simplefilter("ignore")
    logging.disable()
    torch.set_num_threads(1)
    try:
        return row(by_name(name))
    except Exception as e:  # a defect of the operator: told apart, and no reason to stop
        case, words = by_name(name), f"{type(e).__name__}: {first_line(e)}"
        empty = {"case": name, "family": case.family, "error": None, "ways": None}
        return {**empty, "outcome": "CRASHED", "words": words}


# ------------------------------------------------------------------ writing


def page(rows: list[Row], version: str) -> str:
    """Return the page."""
    notes: dict[str, int] = {}
    parts = [_head(rows, version)]
    for family in dict.fromkeys(r["family"] for r in rows):
        ours = [r for r in rows if r["family"] == family]
        parts.append(f"## {family}\n\n" + _table(ours, notes))
    listed = "\n".join(f"{i}. `{text}`" for text, i in notes.items())
    return "\n\n".join([*parts, "## What was raised", listed]) + "\n"


def _head(rows: list[Row], version: str) -> str:
    right, refused = (sum(r["outcome"] == o for r in rows) for o in ("right", "refused"))
    worst = max(r["error"] for r in rows if r["outcome"] == "right")
    return f"""# Coverage

{len(rows)} configurations of networks: **{right} right, {refused} refused by name, \
{len(rows) - right - refused} wrong**. Made by `python docs/update_coverage.py --all` with torch \
{version} on a CPU; the cases are in `tests/zoo`. `isometry.check_architecture` runs the same on a \
network of your own.

The truth are central differences of the network's function in float64, which know nothing of \
derivative rules. *Right* means that every entry of the operator's Jacobian (where the input has \
more than 128 elements: of its products with eight random directions) is within 10⁻⁶ of it, \
relative to the largest entry (10⁻⁴ for the few networks that compute a part of themselves in \
float32 whatever they are told); the worst is {worst:.0e}.

The other columns are single ways to differentiate, first inside the measurement context, then in \
bare PyTorch as users write it, each with three products: ✓ right, **a bold number** wrong without \
a word (the relative error), ✗ raises (the number says what, at the end of the page), · not run. \
The operator takes the first way in the context that works and is right; `cd`, which kinks and \
float32 disturb, never without a warning. Wrong ways beside a refusal show why it refuses.

{_summary(rows)}"""


def _summary(rows: list[Row]) -> str:
    lines = ["| way | column | right | wrong | raises |", "|---|---|---:|---:|---:|"]
    for name, head in HEADS.items():
        kinds = Counter(kind(r, name) for r in rows)
        counts = " | ".join(str(kinds[k]) for k in ("right", "wrong", "raises"))
        lines.append(f"| {name} | {head} | {counts} |")
    return "\n".join(lines)


def kind(r: Row, way: str) -> str:
    """Return what a way was: "right", "wrong", "raises" or "not run"."""
    if r["ways"] is None or r["ways"].get(way, "") is None:
        return "not run"
    mark = r["ways"].get(way, True)
    return "right" if mark is True else "raises" if isinstance(mark, str) else "wrong"


def _table(rows: list[Row], notes: dict[str, int]) -> str:
    context = len(IN_CONTEXT)
    heads = list(HEADS.values())
    cells = [f"**{h}**" for h in heads[:context]] + heads[context:]
    lines = ["| | operator | " + " | ".join(cells) + " |", "|---|---" + "|:-:" * len(cells) + "|"]
    for r in rows:
        marks = " | ".join(_shown(r, name, notes) for name in HEADS)
        lines.append(f"| {r['case']} | {_said(r)} | {marks} |")
    return "\n".join(lines)


def _said(r: Row) -> str:
    if r["words"]:
        return f"{r['outcome']}: {_briefly(r['words'])}"
    return f"{r['outcome']} {r['error']:.0e}"


def _briefly(words: str) -> str:
    """Return a refusal without the advice."""
    advice = r"^the self-check failed: |; self_check=False.*$| \(ISO\d+; .*?\)(?=;|$)"
    words = re.sub(advice, "", words)
    words = words.split(": ")[0] if len(words) > 90 else words
    return words.replace("|", "\\|")


def _shown(r: Row, way: str, notes: dict[str, int]) -> str:
    if kind(r, way) in ("right", "not run"):
        return "✓" if kind(r, way) == "right" else "·"
    mark = r["ways"][way]
    if kind(r, way) == "wrong":
        return f"**{mark:.1g}**"
    text = re.sub(r"0x[0-9a-f]+|\d{4,}", "…", mark).replace("`", "'")
    return f"✗{notes.setdefault(text, len(notes) + 1)}"


def load() -> dict[str, Any]:
    """Return the stored numbers; none at first."""
    if not DATA.exists():
        return {"torch": "", "rows": []}
    found: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
    return found


def save(version: str, rows: list[Row]) -> None:
    """Write one row a line, and the page."""
    lines = ",\n".join(json.dumps(r, ensure_ascii=False) for r in rows)
    DATA.write_text(f'{{"torch": "{version}", "rows": [\n{lines}\n]}}\n', encoding="utf-8")
    PAGE.write_text(page(rows, version), encoding="utf-8")


def main() -> None:
    """Measure what was asked for; an interrupt keeps what is done."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else "--quick"
    asked = [c.name for c in CASES if _is_asked_for(c, wanted)]
    stored = load()
    known = {r["case"]: r for r in stored["rows"]}
    try:
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            for r in pool.map(_measured, asked):
                known[r["case"]] = r
                print(r["case"], r["outcome"], r["error"] or r["words"], flush=True)
    finally:
        version = torch.__version__.split("+")[0] if asked else stored["torch"]
        save(version, [known[c.name] for c in CASES if c.name in known])


def _is_asked_for(case: Case, wanted: str) -> bool:
    if wanted.startswith("--"):
        return wanted == "--all" or (wanted == "--quick" and case.quick)
    return re.search(wanted, f"{case.family}/{case.name}") is not None


if __name__ == "__main__":
    main()

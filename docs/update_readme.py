"""Put the real output of commands and snippets into the pages, draw their figures, list the rules.

A block that follows a comment ``<!-- output: COMMAND -->`` holds what COMMAND prints; one that
follows ``<!-- output -->`` holds what the Python block before it prints. A table that follows
``<!-- table: SCRIPT -->`` is what the script prints.

    python docs/update_readme.py
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import torch

from isometry.rules import all_rules

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- output: isometry (.+?) -->\n```text\n)(.*?)(\n```)", re.DOTALL)
SNIPPET = re.compile(
    r"(```python\n((?:(?!```).)*)\n```\n\n<!-- output -->\n```text\n)(.*?)(```)", re.DOTALL
)

#: the figures of the pages, and what draws each
FIGURES = {
    "tanh_critical": "analyze data/models/tanh_critical.pt --input data/digit.npy --figure",
    "tanh_default": "analyze data/models/tanh_default.pt --input data/digit.npy --figure",
    "relu_orthogonal": "analyze data/models/relu_orthogonal.pt --input data/digit.npy --figure",
    "band_tanh_critical": "analyze data/models/tanh_critical.pt --input data/digit.npy --band 10 "
    "--figure",
    "resnet": "analyze data/models/resnet.pt --model examples.networks:residual_mlp "
    "--input data/digit.npy --figure",
    "layers_tanh_default": "layers data/models/tanh_default.pt --input data/digit.npy --plot",
}

TABLE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def output(*arguments: str) -> str:
    """Run Python with these arguments and return what it prints to stdout."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.rstrip()


def with_outputs(text: str) -> str:
    """Return a page with the outputs of this very installation."""
    text = BLOCK.sub(lambda m: m[1] + output("-m", "isometry_cli", *shlex.split(m[2])) + m[4], text)
    text = SNIPPET.sub(lambda m: m[1] + output("-c", m[2]) + "\n" + m[4], text)
    text = TABLE.sub(lambda m: f"{m[1]}\n{output('-W', 'ignore', m[2])}\n\n{m[3]}", text)
    return re.sub(r"(?<=Outputs below: torch )[\d.]+\d", torch.__version__.split("+")[0], text)


def rules_page() -> str:
    """Return the page that explains every finding."""
    parts = ["# Findings", "", "`isometry rule CODE` prints these; the codes are stable."]
    for r in all_rules():
        parts += ["", f"## {r.code}: {r.title}", "", r.explanation, "", f"*What to do:* {r.remedy}"]
    return "\n".join(parts) + "\n"


def main() -> None:
    """Rewrite the pages in place."""
    for name in ("README.md", "docs/wrong-derivatives.md", "docs/model-files.md"):
        page = ROOT / name
        page.write_text(with_outputs(page.read_text(encoding="utf-8")), encoding="utf-8")
    (ROOT / "docs/rules.md").write_text(rules_page(), encoding="utf-8")
    for name, command in FIGURES.items():
        output("-m", "isometry_cli", *command.split(), str(ROOT / f"docs/figures/{name}.png"))


if __name__ == "__main__":
    main()

"""Put the real output of the commands into README.md, and the rules into docs/rules.md.

A block that follows a comment ``<!-- output: COMMAND -->`` holds what COMMAND prints.

    python docs/update_readme.py
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from isometry.rules import all_rules

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- output: isometry (.+?) -->\n```text\n)(.*?)(\n```)", re.DOTALL)


def output(arguments: str) -> str:
    """Run the installed command line and return what it prints to stdout."""
    command = [sys.executable, "-m", "isometry_cli", *shlex.split(arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.rstrip()


def rules_page() -> str:
    """Return the page that explains every finding."""
    parts = ["# Findings", "", "`isometry rule CODE` prints these; the codes are stable."]
    for r in all_rules():
        parts += ["", f"## {r.code}: {r.title}", "", r.explanation, "", f"*What to do:* {r.remedy}"]
    return "\n".join(parts) + "\n"


def main() -> None:
    """Rewrite both files in place."""
    readme = ROOT / "README.md"
    text = BLOCK.sub(lambda m: m[1] + output(m[2]) + m[4], readme.read_text(encoding="utf-8"))
    readme.write_text(text, encoding="utf-8")
    (ROOT / "docs/rules.md").write_text(rules_page(), encoding="utf-8")


if __name__ == "__main__":
    main()

"""``isometry rule``."""

from __future__ import annotations

import textwrap

import click


@click.command(
    "rule", short_help="Explain a finding's code.", epilog="Example:  isometry rule ISO101"
)
@click.argument("code", required=False)
def command(code: str | None) -> None:
    """Explain the finding CODE; without one, list all codes."""
    from isometry.rules import all_rules, rule

    if code is None:
        for r in all_rules():
            click.echo(f"{r.code}  {r.title}")
        return
    r = rule(code)
    click.echo(f"{r.code}: {r.title}\n")
    click.echo(textwrap.fill(r.explanation, 88))
    click.echo("\n" + textwrap.fill(f"What to do: {r.remedy}", 88))

"""`anonproxy notice`: write the public page that says what is logged."""

import difflib
from pathlib import Path
from typing import get_args

import click

from anonproxy.audit.notice import NO_CONTACT, Form, render_notice
from anonproxy.cli import EXIT_WRONG, options
from anonproxy.config import read_settings
from anonproxy.model.errors import OperatorError


@click.command("notice")
@options.config
@click.option("--format", "form", type=click.Choice(get_args(Form)), default="html", show_default=True)
@click.option("--contact", default=NO_CONTACT, help="Whom to ask, in your own words. Default: a placeholder.")
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write; one that is there is replaced. Default: standard output.",
)
@click.option(
    "--check",
    "published",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Compare with a published page instead: exit status 1 when it says something else than the configuration.",
)
@click.pass_context
def command(
    ctx: click.Context,
    config_path: Path | None,
    form: Form,
    contact: str,
    output: Path | None,
    published: Path | None,
) -> None:
    """Write the public page that says what is logged.

    It says in plain language what is recorded with the present configuration, how exactly, for how long, and what never
    is. Publish it on the library's website. It holds no date: where two of them differ, what is recorded differs.

    \b
    anonproxy notice --contact 'Ann Lee, privacy@library.example.org' --output what-we-log.html
    anonproxy notice --contact 'Ann Lee, privacy@library.example.org' --check what-we-log.html
    """
    page = render_notice(read_settings(options.find_config(config_path)), form, contact)
    if published is not None:
        ctx.exit(_compare(published.read_text(encoding="utf-8", errors="replace"), page))
    if output is None:
        click.echo(page, nl=False)
        return
    try:
        output.write_text(page, encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"{output} can't be written ({error.strerror}). Name another file with --output") from None
    click.echo(f"Wrote {output}")


def _compare(published: str, page: str) -> int:
    """Print the lines in which a published page differs from the live one, and return the exit status."""
    differing = list(difflib.unified_diff(published.splitlines(), page.splitlines(), n=0, lineterm=""))[2:]
    if not differing:
        click.echo("The published page says what the configuration does.")
        return 0
    click.echo("The published page (-) differs from the configuration (+). Publish it anew with --output:")
    for line in differing:
        click.echo(line)
    return EXIT_WRONG

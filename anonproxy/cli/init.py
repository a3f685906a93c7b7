"""`anonproxy init`: write a configuration to start from."""

from pathlib import Path

import click

from anonproxy.model.errors import OperatorError
from anonproxy.model.parse_settings import parse_settings
from anonproxy.model.render_settings import render_minimal, render_reference


@click.command("init")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), default=Path("anonproxy.toml"),
              show_default=True, help="File to write.")  # fmt: skip
@click.option("--upstream", default="http://127.0.0.1:8000", show_default=True, help="Where the site itself answers.")
@click.option("--host", "hosts", multiple=True, help="Host name of the site; may be repeated. Default: any.")
@click.option("--name", default="www", show_default=True, help="Short name of the site, stored with each row.")
@click.option("--listen", default="127.0.0.1:8080", show_default=True, help="Address for visitors.")
@click.option("--store", default="/var/lib/anonproxy", show_default=True, help="Folder of the store.")
@click.option("--all", "show_all", is_flag=True, help="Print every setting with its meaning instead; writes nothing.")
def command(
    output: Path, upstream: str, hosts: tuple[str, ...], name: str, listen: str, store: str, show_all: bool
) -> None:
    """Write a configuration to start from.

    \b
    anonproxy init --host library.example.org --upstream http://127.0.0.1:8000
    anonproxy check
    anonproxy run
    """
    if show_all:
        click.echo(render_reference(), nl=False)
        return
    text = render_minimal(store=store, listen=listen, name=name, hosts=hosts, upstream=upstream)
    parse_settings(text, "these options")
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise OperatorError(f"{output} exists and stays as it is. Name another file with --output") from None
    except OSError as error:
        raise OperatorError(f"{output} can't be written ({error.strerror}). Name another file with --output") from None
    click.echo(f"Wrote {output}. Next: anonproxy check --config {output}")

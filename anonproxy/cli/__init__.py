"""The command line: one file per verb, imported when it is called."""

import importlib
import os
import sys
from typing import Final

import click

from anonproxy.model.errors import OperatorError, SettingsError

# In the order in which a newcomer needs them. Each verb is anonproxy.cli.<verb>.command.
VERBS: Final[dict[str, str]] = {
    "demo": "Show everything once, on a library site that comes with it",
    "init": "Write a configuration to start from",
    "check": "Say whether a configuration and this machine are fit to run",
    "run": "Serve the sites and write anonymised hits",
    "reload": "Have the running proxy take its configuration anew",
    "top": "Show who asks most just now, from memory, on the terminal only",
    "front": "Print a configuration for nginx, Caddy, HAProxy or Apache in front",
    "collect": "Make anonymised rows of the log lines that another server sends",
    "ingest": "Bring old logs into the store, and nothing of them that identifies anyone",
    "report": "Answer what visitors do",
    "sql": "Ask the store one question of your own",
    "web": "Show the figures on pages for a browser",
    "audit": "Prove from the bytes on disk that nothing identifying was kept",
    "canary": "Send marked requests through the running proxy and search for them",
    "explain": "Show what becomes of one request, field by field",
    "notice": "Write the public page that says what is logged",
    "disclose": "Say what could be handed over, for the director and counsel",
    "keys": "Look at the key that tells visits apart, or destroy it now",
    "settle": "Unlink hits whose time is over, and count the days",
    "purge": "Delete what is older than its tier allows",
}

EXIT_WRONG: Final = 1  # the thing that was checked is wrong
EXIT_USAGE: Final = 2  # usage or environment


class _Verbs(click.Group):
    """A group that knows its verbs by name and imports only the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"anonproxy.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="anonproxy")
def group() -> None:
    """Stand in front of a library's website, count its use, and keep nothing that identifies anyone.

    \b
    Start:    anonproxy demo
    Your own: anonproxy init, anonproxy check, anonproxy run
    Ask:      anonproxy report
    Prove:    anonproxy audit

    Exit status: 0 fine, 1 what was checked is wrong, 2 usage or environment.
    """


def main() -> None:
    """Run the command line; an operator's error is a message, never a traceback."""
    open_standard_files()
    try:
        group()
    except OperatorError as error:
        click.echo(f"anonproxy: {error}", err=True)
        sys.exit(EXIT_WRONG if isinstance(error, SettingsError) else EXIT_USAGE)


def open_standard_files() -> None:
    """Open nothing where a standard file is closed: else the next file, one of rows, would take its number, and with it
    whatever is printed.
    """
    for name, mode in {"stdin": "r", "stdout": "w", "stderr": "w"}.items():
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))  # the lowest number that is free

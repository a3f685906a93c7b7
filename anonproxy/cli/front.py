"""`anonproxy front`: print a configuration for a server that stands in front of anonproxy."""

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from anonproxy.anonymize.client_address import is_trusted
from anonproxy.cli import options
from anonproxy.cli.front_collect import WAYS, describe_collect
from anonproxy.config import read_settings
from anonproxy.model.errors import OperatorError
from anonproxy.model.settings import Settings

ANY_HOST: Final = "*"
# Where certbot puts what it gets.
CERTIFICATE: Final = "/etc/letsencrypt/live/{host}/fullchain.pem"
KEY: Final = "/etc/letsencrypt/live/{host}/privkey.pem"
HAPROXY_BUNDLE: Final = "/etc/haproxy/anonproxy.pem"  # it can't read certificate and key from two files of any name

# Under which address of this machine one reaches what listens there.
_REACHED_AT: Final = {"localhost": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - looked up, not bound

TEMPLATES: Final = {
    "nginx": "nginx.conf",
    "caddy": "Caddyfile",
    "haproxy": "haproxy.cfg",
    "apache": "apache.conf",
}

# How each server writes the names that it answers to; without any, or with "*", it answers to all.
_NAMES: Final[dict[str, Callable[[list[str]], str]]] = {
    "nginx": lambda hosts: " ".join(hosts) or "_",
    "caddy": lambda hosts: ", ".join(hosts) or "https://",
    "haproxy": lambda hosts: "",
    "apache": lambda hosts: "\n".join(
        f"    {'ServerAlias' if number else 'ServerName'} {host}" for number, host in enumerate(hosts or ["localhost"])
    ),
}


@click.command("front")
@click.argument("server", type=click.Choice(list(TEMPLATES)))
@options.config
@click.option("--certificate", metavar="FILE", help="Certificate chain. Default: certbot's, for the first host.")
@click.option("--key", metavar="FILE", help="Its private key. Default: certbot's, for the first host.")
@click.option("--collect", "collects", is_flag=True, help="For a server that serves the sites itself: see `collect`.")
def command(server: str, config_path: Path | None, certificate: str | None, key: str | None, collects: bool) -> None:
    """Print a configuration for a server that stands in front of anonproxy.

    It ends TLS, hands the visitor's address on in X-Forwarded-For, and writes none down. Made from your configuration;
    its comments say where it belongs, which line anonproxy.toml needs, and what that server can't keep from the disk.
    With --collect it serves the sites and sends a line of each request to `anonproxy collect`, through memory.

    \b
    anonproxy front nginx > /etc/nginx/conf.d/anonproxy.conf
    anonproxy front nginx --collect > /etc/nginx/conf.d/anonproxy.conf
    """
    path = options.find_config(config_path)
    settings = read_settings(path)
    if collects:
        click.echo(render_collect(server, settings, path, certificate, key), nl=False)
        wanted = WAYS[server].format
        if settings.collect.format != wanted:
            click.echo(f'anonproxy.toml still needs, under [collect]: format = "{wanted}"', err=True)
        return
    click.echo(render_front(server, settings, certificate, key), nl=False)
    address, _ = find_backend(settings.proxy.listen)
    if not is_trusted(address, settings.proxy.trusted_proxies):
        click.echo(f'anonproxy.toml still needs, under [proxy]: trusted_proxies = ["{address}"]', err=True)


def render_front(server: str, settings: Settings, certificate: str | None = None, key: str | None = None) -> str:
    """Render the configuration of a server.

    Raises: OperatorError when there is no host to name the certificate by, the listener has no numeric address, or
    visitors would be sent in circles
    """
    if settings.proxy.redirect_to_https:
        raise OperatorError(
            "proxy.redirect_to_https: would send visitors in circles. The server in front does it: remove it"
        )
    hosts = [host for host in settings.site_hosts() if host != ANY_HOST]
    has_default = ANY_HOST in settings.site_hosts()
    address, port = find_backend(settings.proxy.listen)
    return find_template(TEMPLATES[server]).render(
        backend=f"[{address}]:{port}" if ":" in address else f"{address}:{port}",
        trusted=address,
        names=_NAMES[server]([] if has_default and server == "caddy" else hosts),
        bundle=HAPROXY_BUNDLE,
        **find_certificate(settings, certificate, key),
    )


def render_collect(
    server: str, settings: Settings, config: Path, certificate: str | None = None, key: str | None = None
) -> str:
    """Render the configuration of a server that serves the sites itself and sends its log to `collect`.

    Raises: OperatorError when there is no host to name the certificate by, or the server can't reach the collector
    """
    return find_template(f"collect/{TEMPLATES[server]}").render(
        bundle=HAPROXY_BUNDLE,
        **find_certificate(settings, certificate, key),
        **describe_collect(server, settings, config, _NAMES[server]),
    )


def find_template(name: str) -> Template:
    """Read a template."""
    environment = Environment(
        loader=PackageLoader("anonproxy.cli", "fronts"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        autoescape=False,  # noqa: S701 - no HTML; the settings admit no character that any of the servers would read
    )
    return environment.get_template(name)


def find_certificate(settings: Settings, certificate: str | None, key: str | None) -> dict[str, str]:
    """Return the files that were named, or those that certbot makes for the first host.

    Raises: OperatorError when there is no host to name them by
    """
    hosts = [host for host in settings.site_hosts() if host != ANY_HOST]
    if not hosts and not (certificate and key):
        raise OperatorError("sites: no host is named. Add hosts, or name the files with --certificate and --key")
    first = next((host for host in hosts if ANY_HOST not in host), hosts[0].removeprefix("*.") if hosts else "")
    return {
        "certificate": certificate or CERTIFICATE.format(host=first),
        "key": key or KEY.format(host=first),
    }


def find_backend(listen: str) -> tuple[str, int]:
    """Return the address and port at which this machine itself reaches a listener.

    That is also the address from which it does so: a connection to an own address comes from the same one.

    Raises: OperatorError when the listener is given by a name
    """
    host, _, port = listen.rpartition(":")
    bare = host.strip("[]")
    address = _REACHED_AT.get(bare, bare)
    try:
        return str(ipaddress.ip_address(address)), int(port)
    except ValueError:
        raise OperatorError('proxy.listen: is a name. Write an address, like "127.0.0.1:8080"') from None

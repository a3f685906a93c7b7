"""`anonproxy front`: print a configuration for a server that stands in front of anonproxy."""

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
from jinja2 import Environment, PackageLoader, StrictUndefined

from anonproxy.cli import options
from anonproxy.config import read_settings
from anonproxy.model.errors import OperatorError
from anonproxy.model.settings import Settings
from anonproxy.proxy.client_address import is_trusted

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
def command(server: str, config_path: Path | None, certificate: str | None, key: str | None) -> None:
    """Print a configuration for a server that stands in front of anonproxy.

    It ends TLS, hands the visitor's address on in X-Forwarded-For, and writes none down. Made from your configuration;
    its comments say where it belongs, which line anonproxy.toml needs, and what that server can't keep from the disk.

    \b
    anonproxy front nginx > /etc/nginx/conf.d/anonproxy.conf
    """
    settings = read_settings(options.find_config(config_path))
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
    if not hosts and not (certificate and key):
        raise OperatorError("sites: no host is named. Add hosts, or name the files with --certificate and --key")
    address, port = find_backend(settings.proxy.listen)
    first = next((host for host in hosts if ANY_HOST not in host), hosts[0].removeprefix("*.") if hosts else "")
    environment = Environment(
        loader=PackageLoader("anonproxy.cli", "fronts"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        autoescape=False,  # noqa: S701 - no HTML; the settings admit no character that any of the servers would read
    )
    return environment.get_template(TEMPLATES[server]).render(
        backend=f"[{address}]:{port}" if ":" in address else f"{address}:{port}",
        trusted=address,
        names=_NAMES[server]([] if has_default and server == "caddy" else hosts),
        certificate=certificate or CERTIFICATE.format(host=first),
        key=key or KEY.format(host=first),
        bundle=HAPROXY_BUNDLE,
    )


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

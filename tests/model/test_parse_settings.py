"""A configuration is taken whole, or refused whole with every mistake named."""

import pytest

from anonproxy.model.errors import SettingsError
from anonproxy.model.parse_settings import locate_fields, parse_settings
from anonproxy.model.settings import Settings

MINIMAL = """\
[store]
path = "/var/lib/anonproxy"
[proxy]
listen = "127.0.0.1:8080"
trusted_proxies = []
[[sites]]
name = "www"
hosts = ["library.example.org"]      # empty or "*": any
upstream = "http://127.0.0.1:8000"
"""


def parse(text: str, **environ: str) -> Settings:
    """Parse a configuration as if it stood in a file."""
    return parse_settings(text, "anonproxy.toml", environ)


def mistakes(text: str) -> list[str]:
    """Return the messages of a refused configuration."""
    with pytest.raises(SettingsError) as refused:
        parse(text)
    return [str(problem) for problem in refused.value.problems]


def test_smallest_configuration_runs() -> None:
    """The smallest configuration is enough; everything else has a default."""
    settings = parse(MINIMAL)
    assert settings.privacy.k == 10
    assert settings.store.hot_hours == 48
    assert settings.site_hosts() == {"library.example.org": "www"}


def test_five_mistakes_are_five_messages() -> None:
    """Each mistake is reported, at once, with its field, its line and what to do."""
    text = """\
profil = "strict"
[store]
flush_s = "often"
[proxy]
listen = "8080"
trusted_proxies = ["10.0.0.1/8"]
[[sites]]
name = "www"
upstream = "ftp://files.example.org"
"""
    assert mistakes(text) == [
        "profil (line 1): Extra inputs are not permitted. Remove it, or look for a slip of the pen: "
        "`anonproxy init --all` lists every setting",
        "store.path (line 2): Field required. Add it",
        "store.flush_s (line 3): Input should be a valid number, unable to parse string as a number. "
        "Write a number without quotes",
        'proxy.listen (line 5): not an address to listen on. Write "host:port", like "127.0.0.1:8080" or "[::]:8080"',
        "proxy.trusted_proxies[0] (line 6): not a network. "
        "Write an address or CIDR with host bits zero, like 192.0.2.0/24",
        "sites[0].upstream (line 9): not the address of a site. "
        'Write "http://host:port" or "https://host" without a path',
    ]


REFUSED = {
    "no sites": (MINIMAL.split("[[sites]]")[0], "sites (not in the file): Field required"),
    "two of a name": (MINIMAL + '[[sites]]\nname = "www"\nupstream = "http://127.0.0.1:1"\n', "same name"),
    "two defaults": (
        MINIMAL.replace('["library.example.org"]', "[]") + '[[sites]]\nname = "b"\nupstream = "http://127.0.0.1:1"\n',
        "same host",
    ),
    "a folder as a name": (MINIMAL.replace('"www"', '"../www"'), "sites[0].name (line 7)"),
    "a k that protects nobody": (MINIMAL + "[privacy]\nk = 1\n", "privacy.k (line 11)"),
    "a longer life for visits": (
        MINIMAL.replace('anonproxy"', 'anonproxy"\nhot_hours = 72'),
        "store.hot_hours (line 3)",
    ),
    "a household": (MINIMAL + "[privacy]\nipv6_prefix = 48\n", "privacy.ipv6_prefix (line 11)"),
    "a reserved class": (MINIMAL + '[network_classes]\nremote = ["192.0.2.0/24"]\n', "network_classes"),
    "a route with a query": (MINIMAL + '[[sites.routes]]\npath = "/a?b"\n', "sites[0].routes[0].path (line 11)"),
    "log lines in clear": (
        MINIMAL + '[collect]\nlisten = ["udp:192.0.2.1:514"]\n',
        "collect (line 10): listens beyond",
    ),
    "a log socket without a path": (MINIMAL + '[collect]\nlisten = ["unix:socket"]\n', "collect.listen[0] (line 11)"),
    "lines of no site": (MINIMAL + '[collect]\nsite = "other"\n', "collect (line 10): site is none of the sites"),
    "a status page over TLS": (MINIMAL + '[collect]\nstatus_page = "https://a/"\n', "collect.status_page (line 11)"),
    "not TOML": (MINIMAL + "[[[\n", "TOML (line 10): not valid TOML"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_with_field_and_line(name: str) -> None:
    """What can't be right, or would weaken a promise, is refused at its line."""
    text, expected = REFUSED[name]
    assert any(expected in message for message in mistakes(text)), mistakes(text)


def test_environment_overrides_the_file() -> None:
    """ANONPROXY_SECTION_FIELD wins over the file; lists are split at commas."""
    settings = parse(MINIMAL, ANONPROXY_PRIVACY_K="12", ANONPROXY_PROXY_TRUSTED_PROXIES="127.0.0.1, ::1")
    assert settings.privacy.k == 12
    assert [str(network) for network in settings.proxy.trusted_proxies] == ["127.0.0.1/32", "::1/128"]


def test_profile_sets_defaults_only() -> None:
    """A profile fills what the configuration leaves open and overrides nothing."""
    settings = parse('profile = "strict"\n' + MINIMAL + "[privacy]\nk = 50\n")
    assert (settings.privacy.k, settings.privacy.store_network, settings.store.hits_days) == (50, False, 35)


def test_locates_fields_in_nested_arrays() -> None:
    """A field in the second table of an array is found at its own line."""
    lines = locate_fields('[[sites]]\nname = "a"\n[[sites]]\n[[sites.routes]]\npath = 1\n[[sites.routes]]\npath = 2\n')
    assert lines["sites", 1, "routes", 1, "path"] == 7
    assert lines["sites", 0, "name"] == 2


@pytest.mark.parametrize(
    "places", ['"udp:127.0.0.1:514"', '"tcp:[::1]:514"', '"udp:localhost:514"', '"unix:/run/a.sock", "tcp:127.9.9.9:1"']
)
def test_log_lines_stay_on_this_machine(places: str) -> None:
    """Loopback needs no word; another address does, and then it is taken."""
    assert parse(f"{MINIMAL}[collect]\nlisten = [{places}]\n").collect.listen
    text = f'{MINIMAL}[collect]\nlisten = ["udp:192.0.2.1:514", {places}]\nallow_remote = '
    assert parse(f"{text}true\n").collect.listen
    assert mistakes(f"{text}false\n")

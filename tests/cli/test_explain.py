"""`explain` shows what becomes of a request, and shows nothing of the request that is not stored."""

from pathlib import Path

from click.testing import CliRunner, Result

from anonproxy.cli import group

CONFIG = """\
[store]
path = "/nowhere"
[proxy]
trusted_proxies = ["127.0.0.1"]
[[sites]]
name = "www"
hosts = ["library.example.org"]
upstream = "http://127.0.0.1:9"
presets = ["koha"]
routes = [{path = "/a[/b]/plan"}]
"""
SECRETS = ("203.0.113.77", "divorce", "s3cr3t", "Firefox/145", "/private/page")


def explain(tmp_path: Path, url: str, *arguments: str) -> Result:
    """Explain a request that carries secrets everywhere."""
    path = tmp_path / "anonproxy.toml"
    path.write_text(CONFIG)
    headers = (
        "X-Forwarded-For: 198.51.100.1, 203.0.113.77",
        "Cookie: CGISESSID=s3cr3t",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Firefox/145.0",
        "Referer: https://www.google.com/private/page",
    )
    options = [part for header in headers for part in ("-H", header)]
    return CliRunner(env={"COLUMNS": "200"}).invoke(
        group, ["explain", "--config", str(path), *options, *arguments, url]
    )


def test_names_hop_route_and_rule(tmp_path: Path) -> None:
    """The hop that was taken, what is stored and the rule that decided are shown; what came in is masked."""
    result = explain(tmp_path, "https://library.example.org/cgi-bin/koha/opac-search.pl?q=divorce")
    assert result.exit_code == 0, result.output
    for text in (
        "hop 1 from the right",
        "/cgi-bin/koha/opac-search.pl",
        "preset koha",
        "google.com",
        "Firefox",
        "search",
    ):
        assert text in result.output
    assert not [secret for secret in SECRETS if secret in result.output]


def test_says_why_a_request_is_dropped(tmp_path: Path) -> None:
    """A request for a host that nobody configured is explained as a drop."""
    result = explain(tmp_path, "https://other.example.org/")
    assert "no configured site has this host" in result.output


def test_brackets_are_text(tmp_path: Path) -> None:
    """What a terminal library would take for a style is shown as it is stored, and not told in a traceback."""
    result = explain(tmp_path, "https://library.example.org/a[/b]/plan", "-H", "Referer: https://a[/b].example/")
    assert result.exit_code == 0, result.output
    assert "/a[/b]/plan" in result.output


def test_refuses_a_header_without_a_colon(tmp_path: Path) -> None:
    """A header that can't be read is refused with the form it should have."""
    result = explain(tmp_path, "https://library.example.org/", "-H", "nonsense")
    assert result.exit_code == 2
    assert "'Name: value'" in result.output

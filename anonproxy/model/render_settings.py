"""Print the configuration, every setting explained, from the settings model itself."""

import json
from collections.abc import Iterator
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from anonproxy.model.settings import (
    AuditSettings,
    CertificateSettings,
    CollectSettings,
    CountrySettings,
    PrivacySettings,
    ProxySettings,
    RouteSettings,
    Settings,
    SiteSettings,
    StoreSettings,
    WebSettings,
)

# Settings outside all sections, which set or tighten the rest.
_TOP: Final = ("profile", "policy")

# Sections in the order in which an operator thinks of them.
_SECTIONS: Final[tuple[tuple[str, type[BaseModel]], ...]] = (
    ("store", StoreSettings),
    ("proxy", ProxySettings),
    ("collect", CollectSettings),
    ("privacy", PrivacySettings),
    ("web", WebSettings),
    ("country", CountrySettings),
    ("audit", AuditSettings),
)

_ARRAYS: Final[tuple[tuple[str, type[BaseModel]], ...]] = (
    ("proxy.certificates[]", CertificateSettings),
    ("sites[]", SiteSettings),
    ("sites[].routes[]", RouteSettings),
)

# What required settings are shown with.
_EXAMPLES: Final = {
    "path": "/var/lib/anonproxy",
    "name": "www",
    "upstream": "http://127.0.0.1:8000",
    "hosts": ["library.example.org"],
}

_HEADING: Final = """\
# anonproxy: every setting. Settings that are commented out show their default.
# Check it with `anonproxy check`; nothing starts while anything in it is wrong.
# A setting `field` in `[section]` is overridden by the variable ANONPROXY_SECTION_FIELD.
"""


def render_minimal(*, store: str, listen: str, name: str, hosts: tuple[str, ...], upstream: str) -> str:
    """Render the smallest configuration that runs."""
    return (
        "[store]\n"
        f"path = {_toml(store)}\n\n"
        "[proxy]\n"
        f"listen = {_toml(listen)}\n"
        "trusted_proxies = []  # whose X-Forwarded-For is believed, like your load balancer\n\n"
        "[[sites]]\n"
        f"name = {_toml(name)}\n"
        f'hosts = {_toml(hosts)}  # empty or "*": any\n'
        f"upstream = {_toml(upstream)}\n"
    )


def render_reference() -> str:
    """Render a whole configuration: required settings filled in, all others as comments with their defaults."""
    lines = [_HEADING]
    for name in _TOP:
        lines += _render_field(name, Settings.model_fields[name])
    for name, section in _SECTIONS:
        lines += [f"\n# {_first_line(section)}", f"[{name}]"]
        lines += _render_fields(section)
    lines += [
        f"\n# {Settings.model_fields['network_classes'].description}",
        "[network_classes]",
        '# in-library = ["198.51.100.0/24"]',
        f"\n# {_first_line(SiteSettings)}",
        "[[sites]]",
    ]
    lines += _render_fields(SiteSettings, skip="routes")
    lines += [
        f"\n# {_first_line(RouteSettings)}",
        "# [[sites.routes]]",
        '# path = "/events/{event}"',
        '# kind = "page"',
    ]
    return "\n".join(lines) + "\n"


def setting_rows() -> Iterator[tuple[str, str, str, str]]:
    """Yield name, allowed values, default and meaning of each setting, for the documentation."""
    for name in _TOP:
        yield _row(name, Settings.model_fields[name])
    for prefix, section in (*_SECTIONS, *_ARRAYS):
        for name, field in section.model_fields.items():
            yield _row(f"{prefix}.{name}", field)
    yield _row("network_classes", Settings.model_fields["network_classes"])


def _row(name: str, field: FieldInfo) -> tuple[str, str, str, str]:
    default = "required" if field.is_required() else _toml(_default(field))
    return name, _allowed(field), default, field.description or ""


def _render_fields(section: type[BaseModel], skip: str = "") -> list[str]:
    return [line for name, field in section.model_fields.items() if name != skip for line in _render_field(name, field)]


def _render_field(name: str, field: FieldInfo) -> list[str]:
    allowed = _allowed(field)
    comment = f"# {field.description}{f' ({allowed})' if allowed else ''}"
    if name in _EXAMPLES:
        return [comment, f"{name} = {_toml(_EXAMPLES[name])}"]
    return [comment, f"# {name} = {_toml(_default(field))}"]


def _default(field: FieldInfo) -> object:
    return field.get_default(call_default_factory=True)


def _allowed(field: FieldInfo) -> str:
    bounds = {name: getattr(item, name) for item in field.metadata for name in ("ge", "le") if hasattr(item, name)}
    if len(bounds) == 2:
        return f"{bounds['ge']} to {bounds['le']}"
    if get_origin(field.annotation) is Literal:
        return " | ".join(json.dumps(choice) for choice in get_args(field.annotation))
    return "true | false" if field.annotation is bool else ""


def _toml(value: Any) -> str:
    """Write a value as TOML; strings, numbers, booleans and lists look the same in JSON."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, bool | int | float | str):
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(str(value))


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").split("\n")[0]

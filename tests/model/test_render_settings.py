"""The printed configuration is the one that the model reads."""

import re

from anonproxy.model.parse_settings import parse_settings
from anonproxy.model.render_settings import render_minimal, render_reference, setting_rows


def test_reference_is_valid_as_printed() -> None:
    """The printed reference can be run as it stands."""
    assert parse_settings(render_reference(), "reference").sites[0].name == "www"


def test_reference_shows_the_defaults() -> None:
    """Uncommenting every setting changes nothing but the examples of networks and routes."""
    reference = render_reference()
    uncommented = re.sub(r"(?m)^# (\[\[sites\.routes\]\]|[a-z_-]+ = )", r"\1", reference)
    given, every = parse_settings(reference, "reference"), parse_settings(uncommented, "uncommented")
    assert every.sites[0].model_copy(update={"routes": ()}) == given.sites[0]
    assert every.model_copy(update={"sites": given.sites, "network_classes": {}}) == given


def test_every_setting_is_explained() -> None:
    """No setting is undocumented."""
    rows = list(setting_rows())
    assert len(rows) > 30
    assert all(meaning for _, _, _, meaning in rows)


def test_minimal_is_valid() -> None:
    """What `init` writes can be run."""
    text = render_minimal(store="/s", listen="[::]:80", name="a", hosts=(), upstream="http://127.0.0.1:1")
    assert parse_settings(text, "minimal").proxy.listen == "[::]:80"

from pathlib import Path

import pytest

from anonproxy.anonymize.detectors import detect
from anonproxy.anonymize.presets import Example, Preset, load_preset, parse_preset
from anonproxy.anonymize.route import Routes
from anonproxy.model.settings import SiteSettings
from anonproxy.model.vocabularies import KINDS, UNLISTED, Origin
from anonproxy.model.vocabularies import PRESETS as PRESET_NAMES

PRESETS = [load_preset(name) for name in PRESET_NAMES]
EXAMPLES = [(preset.name, example) for preset in PRESETS for example in preset.examples]


def make_routes(*presets: str) -> Routes:
    """Build the routes of a site with presets alone."""
    return Routes(SiteSettings(name="www", upstream="http://127.0.0.1:8000", presets=presets))


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=lambda value: getattr(value, "url", value))
def test_what_becomes_of_real_urls(name: str, example: Example) -> None:
    """Each URL in a preset gets the route and the kind that stand beside it."""
    found = make_routes(name).match(example.url, 200, is_private=False)
    assert (found.template, found.kind) == (example.route, example.kind)


def test_the_systems_that_libraries_run_are_there() -> None:
    """There is a preset for each system that the design names, and a file for each preset."""
    shipped = {path.stem for path in Path("anonproxy/anonymize/data/presets").glob("*.toml")}
    assert set(PRESET_NAMES) == shipped
    assert shipped >= {
        "aspen", "bibliocommons", "drupal", "encore", "evergreen", "ezproxy", "koha", "libcal", "libguides",
        "overdrive", "polaris", "sierra", "vufind", "wordpress",
    }  # fmt: skip


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_a_preset_is_complete(preset: Preset) -> None:
    """A preset names its sources, has examples of searches and of something lasting, and no rule twice."""
    kinds = {example.kind for example in preset.examples}
    assert preset.title
    assert all(preset.sources)
    assert len(preset.examples) >= 10
    assert "account" in kinds
    assert kinds & {"search", "page"}
    assert len({(rule.path.lower(), rule.query) for rule in preset.rules}) == len(preset.rules)
    assert {rule.kind for rule in preset.rules} <= set(KINDS)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_no_template_can_identify(preset: Preset) -> None:
    """No detector fires on a template, and none can be taken for a placeholder or hold a query."""
    for rule in preset.rules:
        assert detect(rule.route) is None
        assert not set(rule.route) & set("()?#&=% ") - set("=")


def test_templates_are_published() -> None:
    """Whatever a preset can store is in the list of templates, as coming from a preset."""
    for preset in PRESETS:
        routes = make_routes(preset.name)
        templates = dict(routes.templates())
        for example in preset.examples:
            assert templates.get(example.route, example.route) in {Origin.PRESET, UNLISTED}


def test_presets_go_together() -> None:
    """A site may load all presets at once, and each page type of the first keeps its kind."""
    routes = make_routes(*PRESET_NAMES)
    assert routes.match("/cgi-bin/koha/opac-user.pl", 200, is_private=False).kind == "account"


def test_an_unknown_preset_is_refused() -> None:
    """A preset that isn't shipped is refused with the names of those that are."""
    with pytest.raises(ValueError, match=r"no such preset; there are: aspen.*evergreen.*koha"):
        make_routes("kohaa")


@pytest.mark.parametrize(
    "text",
    [
        'title="x"\nsources=[]\nexamples=[]\nsurprise=1\n[rules]',
        'title="x"\nsources=[]\nexamples=[]\n[rules]\npages=["/"]',
        'title="x"\nsources=[]\nexamples=[]\n[rules]\npage=["about"]',
        'title="x"\nsources=[]\nexamples=[]\n[rules]\npage=["/a?b=c"]',
        'title="x"\nsources=[]\nexamples=[]\n[rules]\npage=["/**/a"]',
        'title="x"\nsources=[]\nexamples=[]\n[rules]\npage=["/{a}{b}"]',
        'title="x"\nsources=[]\nexamples=[]\n[rules]\npage=[{path="/a", route="(other)x y"}]',
    ],
)
def test_a_broken_preset_is_refused(text: str) -> None:
    """Unknown keys, unknown kinds and paths that are no patterns raise."""
    with pytest.raises(ValueError, match=r"unknown|not a pattern"):
        parse_preset("x", text)


def test_bases_repeat_the_rules() -> None:
    """With bases, every rule holds below each of them, the front page included."""
    text = 'title="x"\nsources=[]\nbases=["", "/cat"]\nexamples=[]\n[rules]\npage=["/", "/a"]'
    assert [rule.path for rule in parse_preset("x", text).rules] == ["/", "/cat", "/a", "/cat/a"]

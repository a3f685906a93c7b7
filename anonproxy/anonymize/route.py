"""From a request target to a page type: rules, presets, sitemap, deny classes, detectors, and else a candidate.

Only a template is ever stored. A path of a visitor's making gets further as a candidate alone, and is stored only once
admission has seen it in k visits.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple
from urllib.parse import parse_qsl

from anonproxy.anonymize.detectors import detect
from anonproxy.anonymize.path import CleanPath, decode_percent, fold_text, parse_path
from anonproxy.anonymize.presets import load_preset
from anonproxy.model.settings import SiteSettings
from anonproxy.model.vocabularies import REDACTED, UNLISTED, UNMATCHED, Origin

Audience = Literal["general", "children", "sensitive"]
Query = tuple[tuple[str, frozenset[str]], ...]


class Route(NamedTuple):
    """What is known of a page, and what may be stored for it."""

    template: str  # what is stored
    kind: str
    rule: str  # what decided, in words; no part of the request
    candidate: str | None = None  # what may be stored instead, once k visits have shown it
    audience: Audience = "general"


# Routes that a sitemap may add to a site; as many as admission may. A town library's site has 200 to 800 pages.
MAX_LEARNED: Final = 1000

# What a page is, told by the letters that a segment of its path begins with: login.php, search~S1, oauth2. The first
# table that knows a segment decides. Paths with a word of `account` and paths that go on after a word of `search` are
# never listed: what stands there is names, tokens and search terms.
WORDS: Final = {
    kind: frozenset(words.split())
    for kind, words in {
        "account": """
            account accounts activate auth authorize cas checkouts confirm fines forgot forgot-password forgotpassword
            forgot-pin holds invite join log-in log-out login logoff logon logout lost-password lostpassword member
            members my-account my-library myaccount mylibrary myresearch oauth openid passwd password patron
            patronaccount patroninfo patrons pin profile profiles recover register registration renew reset
            reset-password reset-pin resetpassword saml session sessions shibboleth sign-in sign-out sign-up
            signin signout signup sso token unsubscribe user users verify wp-login
        """,
        "api": "ajax api graphql jsonapi oai rest wp-json ws xmlrpc",
        "feed": "atom feed feeds ical rss webcal",
        "search": "catalogsearch find q query results search search-results searchresults searching suche",
    }.items()
}
_STEM: Final = re.compile(r"[a-z_-]*")
EXTENSIONS: Final = {
    extension: kind
    for kind, extensions in {
        "asset": """
            avif bmp css cur eot gif ico jpeg jpg js less map mjs otf png scss svg swf tif tiff ttf wasm webmanifest
            webp woff woff2
        """,
        "download": """
            azw3 csv doc docx epub gz ics m4a m4b marc mobi mov mp3 mp4 mrc odp ods odt ogg pdf ppt pptx rtf tar txt
            wav webm xls xlsx zip
        """,
        "feed": "atom rdf rss",
        "api": "json jsonld",
        "other": "xml",
    }.items()
    for extension in extensions.split()
}
# What every site has or is asked for by software. Source: RFC 8615, RFC 9309, RFC 9116.
EVERYWHERE: Final = {
    "/": "page",
    "/favicon.ico": "asset",
    "/apple-touch-icon.png": "asset",
    "/robots.txt": "other",
    "/sitemap.xml": "other",
    "/ads.txt": "other",
    "/llms.txt": "other",
    "/.well-known/**": "other",
}


class RouteTable[Value]:
    """Patterns of paths, tried segment by segment: a literal beats a part, a part any one, any one beats the rest.

    Upper and lower case are one: some servers don't tell them apart, and a page must not become two routes.
    """

    def __init__(self) -> None:
        self._root: _Node[Value] = _Node()

    def add(self, pattern: str, value: Value, query: Query = ()) -> None:
        """Add a pattern; of two for the same requests the first counts.

        Reveals: nothing about a visitor
        """
        node = self._root
        for part in filter(None, pattern.removesuffix("/**").split("/")):
            node = node.child(part)
        choices = node.rest if pattern.endswith("/**") else node.ends
        choices.append((query, value))
        choices.sort(key=lambda choice: not choice[0])  # those that ask for parameters are tried first

    def find(self, lowered: tuple[str, ...], raw_query: str = "") -> Value | None:
        """Find what was added for a path in lower case, and for the parameters that it asks for.

        Reveals: what was added
        """
        return self._root.find(lowered, 0, raw_query)


class _Node[Value]:
    """What may follow one beginning of a path."""

    __slots__ = ("any", "ends", "literals", "parts", "rest")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[Value]] = {}
        self.parts: dict[tuple[str, str], _Node[Value]] = {}  # by what stands before and after the name
        self.any: _Node[Value] | None = None
        self.ends: list[tuple[Query, Value]] = []
        self.rest: list[tuple[Query, Value]] = []

    def child(self, part: str) -> "_Node[Value]":
        head, brace, name_and_tail = fold_text(decode_percent(part)).lower().partition("{")
        tail = name_and_tail.partition("}")[2]
        if not brace:
            return self.literals.setdefault(head, _Node())
        if head or tail:
            return self.parts.setdefault((head, tail), _Node())
        self.any = self.any or _Node()
        return self.any

    def find(self, lowered: tuple[str, ...], index: int, raw_query: str) -> Value | None:
        if index == len(lowered):
            return _choose(self.ends, raw_query) or _choose(self.rest, raw_query)
        segment = lowered[index]
        node = self.literals.get(segment)
        found = node.find(lowered, index + 1, raw_query) if node else None
        if found is not None:
            return found
        for (head, tail), node in self.parts.items():
            if len(segment) > len(head) + len(tail) and segment.startswith(head) and segment.endswith(tail):
                found = node.find(lowered, index + 1, raw_query)
                if found is not None:
                    return found
        found = self.any.find(lowered, index + 1, raw_query) if self.any else None
        return _choose(self.rest, raw_query) if found is None else found


def _choose[Value](choices: list[tuple[Query, Value]], raw_query: str) -> Value | None:
    """Take the first choice whose parameters the query has."""
    if not choices:
        return None
    if not choices[0][0]:
        return choices[0][1]
    given: dict[str, set[str]] = {}
    for name, value in parse_qsl(raw_query, keep_blank_values=True, errors="replace"):
        given.setdefault(name.lower(), set()).add(value)
    for query, found in choices:
        if all(name in given and (not values or values & given[name]) for name, values in query):
            return found
    return None


_EVERYWHERE: Final[RouteTable[Route]] = RouteTable()
for _path, _kind in EVERYWHERE.items():
    _EVERYWHERE.add(_path, Route(_path, _kind, "every site"))


class Routes:
    """The page types of one site."""

    def __init__(self, site: SiteSettings) -> None:
        self._templates = dict.fromkeys(EVERYWHERE, Origin.PRESET)
        self._configured: RouteTable[Route] = RouteTable()
        self._presets: RouteTable[Route] = RouteTable()
        self._learned: RouteTable[Route] = RouteTable()
        self._learned_count = 0
        self._audiences: RouteTable[Audience] = RouteTable()
        for route in site.routes:
            self._configured.add(route.path, Route(route.path, route.kind, "configured"))
            self._templates[route.path] = Origin.CONFIGURED
        for name in site.presets:
            for rule in load_preset(name).rules:
                self._presets.add(rule.path, Route(rule.route, rule.kind, f"preset {name}"), rule.query)
                self._templates.setdefault(rule.route, Origin.PRESET)
        for pattern in site.sensitive:  # first, because they are the stricter class where both name a page
            self._audiences.add(pattern, "sensitive")
        for pattern in site.children:
            self._audiences.add(pattern, "children")

    def learn(self, paths: Iterable[str]) -> None:
        """Take the pages that the site itself publishes into its routes, but for those that a rule covers.

        Reveals: nothing about a visitor
        """
        for raw_path in paths:
            path = parse_path(raw_path)
            if self._learned_count >= MAX_LEARNED:
                return
            if path is None or path.flaw or detect(path.text) or self._find(path):
                continue
            self._learned.add(path.text, Route(path.text, guess_kind(path.lowered), "sitemap"))
            self._templates.setdefault(path.text, Origin.SITEMAP)
            self._learned_count += 1

    def templates(self) -> Iterator[tuple[str, Origin]]:
        """List every template that a request can get without admission, beside the placeholders.

        Reveals: nothing about a visitor
        """
        yield from self._templates.items()

    def match(self, raw_target: str, status: int, is_private: bool) -> Route:
        """Find the page type of a request.

        Reveals: a template of the site's own; beside it a candidate, for admission only
        """
        path = parse_path(raw_target)
        if path is None:
            return Route(UNMATCHED if 400 <= status < 500 else UNLISTED, "other", "not a path")
        route = self._find(path) or _judge(path, status, is_private)
        if 400 <= status < 500:
            route = Route(UNMATCHED, route.kind, "status 4xx")
        audience = self._find_audience(path)
        return route if audience is None else route._replace(audience=audience)

    def _find(self, path: CleanPath) -> Route | None:
        return (
            self._configured.find(path.lowered, path.raw_query)
            or self._presets.find(path.lowered, path.raw_query)
            or self._learned.find(path.lowered)
            or _EVERYWHERE.find(path.lowered)
        )

    def _find_audience(self, path: CleanPath) -> Audience | None:
        """Classify by the path as any server could read it, encoded slashes included."""
        lowered = path.lowered
        if any("/" in segment or "\\" in segment for segment in lowered):
            lowered = tuple("/".join(lowered).replace("\\", "/").split("/"))
        return self._audiences.find(lowered)


def _judge(path: CleanPath, status: int, is_private: bool) -> Route:
    """Decide about a path that no rule knows."""
    kind = guess_kind(path.lowered)
    is_answered = 200 <= status < 300 or status == 304
    shown = f"/{path.segments[0]}/**" if kind == "asset" and len(path.segments) > 1 else path.text
    reasons = (
        (path.flaw, path.flaw),
        (not is_answered, "status not 2xx"),
        (is_private, "private answer"),
        (kind == "account", "account page"),
        (kind == "search" and path.lowered[-1] not in WORDS["search"], "search term in the path"),
    )
    for applies, reason in reasons:
        if applies:
            return Route(UNLISTED, kind, reason)
    if found := detect(shown):
        return Route(REDACTED, kind, f"detector {found}")
    return Route(UNLISTED, kind, "candidate", shown)


def guess_kind(lowered: tuple[str, ...]) -> str:
    """Tell the kind of page by the words and the extension of its path.

    Reveals: one of the kinds
    """
    if not lowered:
        return "page"
    _, dot, extension = lowered[-1].rpartition(".")
    by_extension = EXTENSIONS.get(extension) if dot else None
    if by_extension == "asset":
        return by_extension
    words = {stem[0].replace("_", "-") for stem in map(_STEM.match, lowered) if stem}
    by_word = next((kind for kind, known in WORDS.items() if words & known), "page")
    return by_word if by_word == "account" else by_extension or by_word

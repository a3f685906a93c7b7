"""The public page that says what is logged, in plain words, from the live configuration.

It holds no date and no version, so that two of them differ only where what is recorded differs.
"""

import html
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Final, Literal

from anonproxy.model import vocabularies as words
from anonproxy.model.columns import DIMENSIONS, HIT_COLUMNS
from anonproxy.model.settings import Settings, SiteSettings

Form = Literal["html", "markdown", "text"]

# Who asks needs somebody to ask: until --contact names them, the page shows that it doesn't.
NO_CONTACT: Final = "[name, e-mail address and telephone number of the library's privacy contact]"
TITLE: Final = "What this website records about your visit"
TEXT_WIDTH: Final = 88

# Addresses that stand for nobody's (RFC 5737, RFC 3849).
EXAMPLE_IPV4: Final = "203.0.113.77"
EXAMPLE_IPV6: Final = "2001:db8:85a3:8d3:1319:8a2e:370:7348"


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table, of whose rows the first cell is the heading."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Block = str | Items | Table


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it; some are folded away where the form can do that."""

    title: str
    blocks: tuple[Block, ...]
    is_folded: bool = False


def render_notice(settings: Settings, form: Form, contact: str = NO_CONTACT) -> str:
    """Render the public page that says what is recorded with these settings."""
    return RENDERERS[form](describe(settings, contact))


def describe(settings: Settings, contact: str = NO_CONTACT) -> tuple[Section, ...]:
    """Say everything that the page says; `code` stands in backticks."""
    return (
        Section(TITLE, tuple(_introduce(settings))),
        Section("What is recorded", tuple(_list_facts(settings))),
        Section("What is never recorded", (Items(tuple(_list_absent(settings))),)),
        Section("What is only in memory", (MEMORY, Items(tuple(_list_memory(settings))))),
        Section("How long it is kept", tuple(_list_tiers(settings))),
        Section("Children's pages and sensitive topics", tuple(_list_private_pages(settings.sites))),
        Section("If you don't want your visit followed", (OPT_OUT,)),
        Section("What this page can't speak for", (Items(tuple(_list_limits(settings))),)),
        Section("Questions", (f"Please ask: {contact}",)),
        Section("All values that can be recorded", tuple(_list_values(settings)), is_folded=True),
    )


# --- What it says ---------------------------------------------------------------------------------------------------


def _introduce(settings: Settings) -> Iterator[Block]:
    hosts = sorted({host for site in settings.sites for host in site.hosts if host != "*"})
    if hosts:
        yield f"This page is about {_join(f'`{host}`' for host in hosts)}."
    yield (
        "We count how our website is used, to learn which pages help and what is broken. We don't want to know who you "
        "are or what you read. So a program stands in front of the website, and for each thing that your browser asks "
        "for it writes one line in which nothing points to you any more. What could identify you is removed in the "
        "computer's memory, before the line is written. Nobody can ask for it later: it was never written down."
    )


OPT_OUT: Final = (
    "Switch on “Global Privacy Control” or “Do Not Track” in your browser. It then says so with each request "
    "(`Sec-GPC` or `DNT`), and yours are counted without belonging to any visit. You need not tell us, and there is "
    "nothing to sign up for."
)

RESOLUTIONS: Final = {"15min": "the quarter of an hour", "1h": "the hour", "1day": "the day"}


def _tell_time(settings: Settings) -> str:
    kept = RESOLUTIONS[settings.privacy.time_resolution]
    return f"Only {kept} in which it happened, never the minute or the second."


def _tell_site(settings: Settings) -> str:
    return f"Which of our websites it was: {_codes(site.name for site in settings.sites)}."


def _tell_page(settings: Settings) -> str:
    templates = [route.path for site in settings.sites for route in site.routes if "{" in route.path]
    example = f", like `{templates[0]}`" if templates else ""
    return (
        "The page and its sort. Where our list of page types leaves out a number or a name, it is left out"
        f"{example}. A page that is on no list of ours is named only once {_k(settings)} have opened it "
        f"{_epoch(settings)}, and never if it is part of an account, or if its address holds what looks like a card "
        f"number, an e-mail address or the like. Until then it is `{words.UNLISTED}`."
    )


def _tell_answer(settings: Settings) -> str:
    return (
        "Whether it worked; roughly how much was sent and how long it took, each as one of a few steps "
        f"({len(words.SIZE_BUCKETS_BYTES)} and {len(words.DURATION_BUCKETS_MS)}); and whether your browser asked for "
        "something or sent something, never what it sent."
    )


def _tell_visit(settings: Settings) -> str:
    privacy, store = settings.privacy, settings.store
    return (
        f"A number that ties the pages of one visit together, for at most {store.hot_hours} hours. It is worked out "
        "from the website's session cookie, or else from your internet address and browser, with a secret key that "
        f"exists only in the computer's memory and is destroyed {_cut(settings)}. After that nobody can work out whose "
        f"visit it was, not even we. A visit ends after {privacy.visit_idle_min} minutes without a click, and after "
        f"{_count(privacy.visit_max_h, 'hour')} in any case. With it stand the page's place in the visit, and roughly "
        "how long the visit has lasted."
    )


def _tell_network(settings: Settings) -> str:
    privacy = settings.privacy
    if not privacy.store_network:
        return "Nothing. No part of your address is recorded."
    network = ipaddress.ip_network(f"{EXAMPLE_IPV4}/{privacy.ipv4_prefix}", strict=False)
    network_v6 = ipaddress.ip_network(f"{EXAMPLE_IPV6}/{privacy.ipv6_prefix}", strict=False)
    return (
        f"Not your address, only the network that it is part of: of `{EXAMPLE_IPV4}` we keep `{network}`, which is "
        f"shared by {network.num_addresses:,} addresses; of an IPv6 address its first {privacy.ipv6_prefix} of 128 "
        f"bits, like `{network_v6}`. It is recorded only once {_k(settings)} have come from it {_epoch(settings)}; "
        "until then it is a wider network, or none."
    )


def _tell_network_class(settings: Settings) -> str:
    if not settings.network_classes:
        return f"Nothing is told apart: it is `{words.REMOTE}` for everybody."
    names = _codes([*settings.network_classes, words.REMOTE])
    return f"One of {names}; the last stands for everywhere else."


def _tell_country(settings: Settings) -> str:
    return (
        f"The country that your network is registered in, or `{words.UNKNOWN_COUNTRY}`. Nothing smaller than a country."
    )


def _tell_referrer(settings: Settings) -> str:
    return (
        "If a link brought you here, the name of the website with the link, if it is a well-known public one, one that "
        f"we work with, or one from which {_k(settings)} came {_epoch(settings)}. Never which page of it, and never "
        "what you searched for there. If the link is from our newsletter or a poster, the name of that campaign, under "
        "the same condition."
    )


def _tell_program(settings: Settings) -> str:
    return (
        "The family of your browser and of your system, and the sort of device: `Firefox`, `Windows`, `desktop`. No "
        "versions and no models. Robots are told apart from people."
    )


def _tell_language(settings: Settings) -> str:
    return (
        f"The language that your browser asks for, if it is one of {len(settings.privacy.languages)} common ones; else "
        f"`{words.OTHER_LANGUAGE}`."
    )


@dataclass(frozen=True, slots=True)
class Fact:
    """Some columns that a visitor would call one thing."""

    name: str
    columns: tuple[str, ...]
    tell: Callable[[Settings], str]


FACTS: Final = (
    Fact("When", ("time",), _tell_time),
    Fact("Which website", ("site",), _tell_site),
    Fact("Which page", ("route", "kind"), _tell_page),
    Fact("How it went", ("method", "status", "size_bytes", "duration_ms"), _tell_answer),
    Fact("Which pages belong to one visit", ("visit", "step", "elapsed_s"), _tell_visit),
    Fact("From which network", ("network",), _tell_network),
    Fact("In the library or elsewhere", ("network_class",), _tell_network_class),
    Fact("From which country", ("country",), _tell_country),
    Fact("By which link", ("referrer", "channel", "campaign"), _tell_referrer),
    Fact("With which program", ("browser", "os", "device", "bot"), _tell_program),
    Fact("In which language", ("language",), _tell_language),
)

COLUMNS: Final = {column.name: column for column in HIT_COLUMNS}


def _list_facts(settings: Settings) -> Iterator[Block]:
    yield "For each page, picture or file that your browser asks for, one line is written. This is all that it holds:"
    yield Table(
        "Everything that one line holds",
        ("What", "How exactly", "What for"),
        tuple((fact.name, fact.tell(settings), _purpose(fact)) for fact in FACTS),
    )


def _purpose(fact: Fact) -> str:
    told = ""
    for purpose in (COLUMNS[name].purpose for name in fact.columns):
        if purpose.lower() not in told.lower():
            told += f"; {purpose[:1].lower()}{purpose[1:]}" if told else purpose
    return told


def _list_absent(settings: Settings) -> Iterator[str]:
    yield "your name, your card number, your PIN, or anything else that you log in with"
    yield "what you search for: of all that stands behind the `?` in an address, nothing but the name of a campaign"
    yield f"the name of a page that is on no list of ours and that fewer than {_k(settings)} have opened"
    yield "what you type into a form, and what you send or upload"
    if settings.privacy.store_network:
        yield "your full internet address"
    else:
        yield "your internet address, neither all of it nor any part"
    yield "cookies: the counting sets none, and writes none down"
    yield "the exact time, the exact size and the exact duration of anything"
    yield "the version of your browser, the model of your device, or a “fingerprint” of them"
    yield "the page that you came from, or what you searched for there"


def _list_tiers(settings: Settings) -> Iterator[Block]:
    store = settings.store
    yield Table(
        "What is kept for how long",
        ("What", "How long"),
        (
            ("The secret key that ties a visit together", f"Destroyed {_cut(settings)}; it is never written to a disk"),
            ("Lines with the number of the visit", f"{store.hot_hours} hours at most"),
            ("The same lines without that number", f"{store.hits_days} days"),
            ("Totals for each day", f"{store.daily_months} months"),
        ),
    )
    yield (
        "Then they are deleted. When the number is taken out of a line, the hour is taken out as well if fewer than "
        f"{_k(settings)} saw that page in it. In the totals, whatever fewer than {_k(settings)} of a day have in "
        f"common is put together as `{words.OTHER}`."
    )


MEMORY: Final = (
    "To answer you, a computer must know where to. While it does, its memory holds the following, which is never "
    "written to a disk and is gone when the program ends:"
)


def _list_memory(settings: Settings) -> Iterator[str]:
    proxy = settings.proxy
    yield "your full internet address and what you asked for, until you are answered and your connection is closed"
    if proxy.max_connections or proxy.max_requests_per_s:
        limited = [
            *(["connections"] if proxy.max_connections else []),
            *(["requests"] if proxy.max_requests_per_s else []),
        ]
        yield f"how many {_join(limited)} your address has just now, so that nobody can crowd out the others"
    if proxy.top:
        yield (
            "your address (of an IPv6 address the first half) and how often it asked, for five minutes, so that "
            "whoever runs the website can fend off a swarm of robots"
        )
    yield "what ties the pages of your visit together, until the secret key is destroyed"


def _list_private_pages(sites: Sequence[SiteSettings]) -> Iterator[Block]:
    pages = tuple(_list_audiences(sites))
    if not pages:
        yield "No pages are set apart: requests for all pages can belong to a visit."
        return
    yield (
        "Requests for these pages belong to no visit: that somebody opened one of them is counted, but not what else "
        "the same person looked at."
    )
    yield Items(pages)


def _list_audiences(sites: Sequence[SiteSettings]) -> Iterator[str]:
    for site in sites:
        where = f" at `{site.name}`" if len(sites) > 1 else ""
        for name, patterns in (("Children's pages", site.children), ("Sensitive topics", site.sensitive)):
            if patterns:
                yield f"{name}{where}: {_name_pages(patterns)}"


def _name_pages(patterns: Sequence[str]) -> str:
    below = [f"`{pattern.removesuffix('**')}`" for pattern in patterns if pattern.endswith("/**")]
    single = [f"`{pattern}`" for pattern in patterns if not pattern.endswith("/**")]
    return "; ".join([*([f"everything below {_join(below)}"] if below else []), *([_join(single)] if single else [])])


def _list_limits(settings: Settings) -> Iterator[str]:
    learns = {
        "none": "The website behind the counting doesn't learn your internet address from it.",
        "truncated": "The website behind the counting learns your network from it, but not your full address.",
    }
    yield learns[settings.proxy.forward_client]
    yield (
        "What you do in your library account (loans, holds, fines) is kept by the library's own systems as long as "
        "they need it. See the library's privacy policy."
    )
    yield (
        "Other websites that we link to or that we show on ours (e-books, films, maps, event calendars) have rules of "
        "their own."
    )


# --- All values -----------------------------------------------------------------------------------------------------

PLACEHOLDERS: Final = (
    (words.UNLISTED, "a page that too few visits have opened to be named"),
    (words.UNMATCHED, "an address that the website doesn't have"),
    (words.REDACTED, "an address in which something could identify somebody"),
    (words.OTHER, "a value that is on no list, and that too few visits share"),
    (words.INTERNAL, "a link of the website itself"),
    (words.DIRECT, "no link: typed in, a bookmark, or not told"),
)


def _list_values(settings: Settings) -> Iterator[Block]:
    yield (
        "For those who want to know exactly: every column of a line, and every value that it can hold. The program "
        "refuses to write anything else."
    )
    yield Table(
        "The columns of a line",
        ("Column", "Meaning", "Values"),
        tuple((f"`{column.name}`", column.meaning, VALUES[column.name](settings)) for column in HIT_COLUMNS),
    )
    yield "Some values stand for what is left out:"
    yield Items(tuple(f"`{value}`: {meaning}" for value, meaning in PLACEHOLDERS))
    yield f"The totals of a day are counted by {_codes(DIMENSIONS)}."


def _configured(name: str) -> Callable[[Settings], str]:
    def tell(settings: Settings) -> str:
        own = dict.fromkeys(value for site in settings.sites for value in getattr(site, f"{name}s"))
        own_values = f", {_codes(own)}" if own else ""
        return f"{_OPEN[name]}{own_values}, or shared by {_k(settings)} {_epoch(settings)}; else `{words.OTHER}`"

    return tell


_OPEN: Final = {
    "referrer": f"`{words.DIRECT}`, `{words.INTERNAL}`, a public site of a published list",
    "campaign": "empty, or the name in a link",
}


def _tell_routes(settings: Settings) -> str:
    routes = dict.fromkeys(route.path for site in settings.sites for route in site.routes)
    presets = dict.fromkeys(preset for site in settings.sites for preset in site.presets)
    kinds = [
        *([f"the page types {_codes(routes)}"] if routes else []),
        *([f"those of {_codes(presets)}"] if presets else []),
        *(["pages of the site's own sitemap"] if any(site.sitemap for site in settings.sites) else []),
        f"pages that {_k(settings)} have opened {_epoch(settings)}",
    ]
    return "; ".join(kinds)


def _codes_of(values: Iterable[str]) -> Callable[[Settings], str]:
    return lambda _: _codes(values)


VALUES: Final[dict[str, Callable[[Settings], str]]] = {
    "time": lambda settings: f"The beginning of {RESOLUTIONS[settings.privacy.time_resolution]} (UTC)",
    "site": lambda settings: _codes(site.name for site in settings.sites),
    "method": _codes_of(words.METHODS),
    "route": _tell_routes,
    "kind": _codes_of(words.KINDS),
    "status": lambda _: f"The {len(words.STATUSES) - 1} registered codes, or 0",
    "size_bytes": lambda _: _steps(words.SIZE_BUCKETS_BYTES),
    "duration_ms": lambda _: _steps(words.DURATION_BUCKETS_MS),
    "visit": lambda settings: f"A number without meaning, deleted after {settings.store.hot_hours} hours at most",
    "step": lambda _: f"0 to {words.MAX_STEP}",
    "elapsed_s": lambda _: _steps(words.ELAPSED_BUCKETS_S),
    "network": lambda settings: _tell_prefixes(settings),
    "network_class": lambda settings: _codes([*settings.network_classes, words.REMOTE]),
    "country": lambda _: f"{len(words.COUNTRIES)} two-letter codes (ISO 3166), or `{words.UNKNOWN_COUNTRY}`",
    "referrer": _configured("referrer"),
    "channel": _codes_of(words.CHANNELS),
    "campaign": _configured("campaign"),
    "browser": _codes_of(words.BROWSERS),
    "os": _codes_of(words.OSES),
    "device": _codes_of(words.DEVICES),
    "bot": lambda _: f"empty for a person; {_codes(filter(None, words.BOTS))}",
    "language": lambda settings: _codes([*settings.privacy.languages, words.OTHER_LANGUAGE]),
}


def _tell_prefixes(settings: Settings) -> str:
    privacy = settings.privacy
    if not privacy.store_network:
        return "empty"
    return f"At most the first {privacy.ipv4_prefix} of 32 bits, or {privacy.ipv6_prefix} of 128; or empty"


# --- Words ----------------------------------------------------------------------------------------------------------


def _k(settings: Settings) -> str:
    return f"{settings.privacy.k} visits"


def _epoch(settings: Settings) -> str:
    hours = settings.privacy.epoch_hours
    return "on the same day" if hours == 24 else f"within {_count(hours, 'hour')}"


def _cut(settings: Settings) -> str:
    privacy = settings.privacy
    zone = "local time" if privacy.time_zone == "local" else privacy.time_zone
    if privacy.epoch_hours == 24:
        return f"every day at {privacy.epoch_cut} ({zone})"
    return (
        f"every {_count(privacy.epoch_hours, 'hour').removeprefix('1 ')}, and every day at {privacy.epoch_cut} ({zone})"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _steps(numbers: Sequence[int]) -> str:
    return f"{len(numbers)} steps: {', '.join(f'{number:,}' for number in numbers)}"


def _codes(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _join(parts: Iterable[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


# --- Forms ----------------------------------------------------------------------------------------------------------


def _render_text(sections: Sequence[Section]) -> str:
    parts: list[str] = []
    for number, section in enumerate(sections):
        parts.append(f"{section.title}\n{('=' if number == 0 else '-') * len(section.title)}")
        parts += [_render_text_block(block) for block in section.blocks]
    return "\n\n".join(parts).replace("`", "") + "\n"


def _render_text_block(block: Block) -> str:
    match block:
        case str():
            return _fill(block)
        case Items(items):
            return "\n".join(_fill(item, "  * ", "    ") for item in items)
        case Table(_, head, rows):
            return "\n\n".join("\n".join(_render_text_row(head, row)) for row in rows)


def _render_text_row(head: Sequence[str], row: Sequence[str]) -> Iterator[str]:
    yield f"  {row[0]}"
    for index, cell in enumerate(row[1:], 1):
        yield _fill(cell if len(row) == 2 else f"{head[index]}: {cell}", "    ", "      ")


def _fill(text: str, first: str = "", rest: str = "") -> str:
    return fill(
        text, TEXT_WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def _render_markdown(sections: Sequence[Section]) -> str:
    parts: list[str] = []
    for number, section in enumerate(sections):
        parts.append(f"{'#' if number == 0 else '##'} {section.title}")
        parts += [_render_markdown_block(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _render_markdown_block(block: Block) -> str:
    match block:
        case str():
            return block
        case Items(items):
            return "\n".join(f"- {item}" for item in items)
        case Table(_, head, rows):
            lines = (head, ("---",) * len(head), *rows)
            return "\n".join(f"| {' | '.join(cell.replace('|', '\\|') for cell in line)} |" for line in lines)


STYLE: Final = """\
:root { color-scheme: light dark; --ink: light-dark(#1d2b2a, #e9e7e1); --soft: light-dark(#4c5a57, #b3bdb9);
  --paper: light-dark(#fdfcf9, #15191a); --line: light-dark(#d9d4c7, #39444a); --accent: light-dark(#17564f, #86cdc0);
  --wash: light-dark(#f2efe7, #1f2628) }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.6 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
main { max-width: 52rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem }
h1, h2, summary { font-family: "Iowan Old Style", "Palatino Linotype", Palatino, Georgia, serif; line-height: 1.25;
  text-wrap: balance }
h1 { font-size: clamp(1.8rem, 1.3rem + 2vw, 2.5rem); margin: 0 0 1.25rem }
h2 { font-size: 1.4rem; margin: 2.5rem 0 .75rem; color: var(--accent) }
p, ul { margin: 0 0 1rem; max-width: 42rem }
ul { padding-left: 1.25rem }
li { margin-bottom: .35rem }
.scroll { overflow-x: auto; margin: 0 0 1rem }
.scroll:focus-visible, summary:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
table { border-collapse: collapse; width: 100%; font-size: .97rem }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
th, td { text-align: left; vertical-align: top; padding: .65rem 1rem .65rem 0; border-bottom: 1px solid var(--line) }
thead th { color: var(--soft); font-size: .85rem; font-weight: 600 }
tbody th { font-weight: 600; min-width: 9rem }
td { min-width: 10rem }
td:nth-child(3):last-child { color: var(--soft) }
code { font: .9em ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; background: var(--wash);
  padding: .05em .3em; border-radius: .25em; overflow-wrap: anywhere }
details { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1.25rem }
details h2 { display: inline; margin: 0 }
summary { cursor: pointer; margin-bottom: 1rem }
@media (max-width: 40rem) {
  table, tbody, tr, th, td { display: block; width: 100% }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
  tbody th { border: 0; padding-bottom: 0 }
  td { padding-top: .15rem }
  td:not(:last-child) { border: 0; padding-bottom: .15rem }
  td:nth-child(n + 3)::before { content: attr(data-head) ": " }
}
@media print { details::details-content { content-visibility: visible; display: block; height: auto } }
"""


def _render_html(sections: Sequence[Section]) -> str:
    body = "\n".join(
        _render_html_section(section, "h1" if number == 0 else "h2") for number, section in enumerate(sections)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{html.escape(sections[0].title)}</title>\n<style>\n{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _render_html_section(section: Section, heading: str) -> str:
    title = f"<{heading}>{_mark_up(section.title)}</{heading}>"
    blocks = "\n".join(_render_html_block(block) for block in section.blocks)
    if section.is_folded:
        return f"<details>\n<summary>{title}</summary>\n{blocks}\n</details>"
    return f"<section>\n{title}\n{blocks}\n</section>"


def _render_html_block(block: Block) -> str:
    match block:
        case str():
            return f"<p>{_mark_up(block)}</p>"
        case Items(items):
            return "<ul>\n" + "\n".join(f"<li>{_mark_up(item)}</li>" for item in items) + "\n</ul>"
        case Table(caption, head, rows):
            columns = "".join(f'<th role="columnheader" scope="col">{_mark_up(cell)}</th>' for cell in head)
            lines = "\n".join(_render_html_row(head, row) for row in rows)
            return (
                f'<div class="scroll" role="region" aria-label="{html.escape(caption)}" tabindex="0">\n'
                f'<table role="table">\n<caption>{_mark_up(caption)}</caption>\n'
                f'<thead role="rowgroup"><tr role="row">{columns}</tr></thead>\n'
                f'<tbody role="rowgroup">\n{lines}\n</tbody>\n</table>\n</div>'
            )


def _render_html_row(head: Sequence[str], row: Sequence[str]) -> str:
    # On a narrow screen cells stand below each other, and only roles still say that this is a table.
    cells = "".join(
        f'<td role="cell" data-head="{html.escape(name)}">{_mark_up(cell)}</td>'
        for name, cell in zip(head[1:], row[1:], strict=True)
    )
    return f'<tr role="row"><th role="rowheader" scope="row">{_mark_up(row[0])}</th>{cells}</tr>'


def _mark_up(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))


RENDERERS: Final[dict[Form, Callable[[Sequence[Section]], str]]] = {
    "html": _render_html,
    "markdown": _render_markdown,
    "text": _render_text,
}

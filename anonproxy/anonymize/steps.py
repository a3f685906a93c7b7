"""The anonymiser: one list of steps from a raw request to a hit, or to the reason why there is none.

Each step fills columns of a draft and notes the rule that decided, so that `explain` shows what `anonymize` did and
not a second telling of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from anonproxy.anonymize.agent import Agent, parse_agent
from anonproxy.anonymize.buckets import bucket_duration, bucket_elapsed, bucket_size, bucket_status, bucket_time
from anonproxy.anonymize.context import Client, Context, Countries, Site, VisitTagger
from anonproxy.anonymize.language import parse_language
from anonproxy.anonymize.referrer import parse_campaign
from anonproxy.anonymize.request import RawRequest
from anonproxy.anonymize.route import Route
from anonproxy.anonymize.rules import (
    SHARED,
    Offer,
    find_query,
    fold_method,
    is_credible,
    is_oversized,
    is_pageview,
    offer_campaign,
    offer_network,
    offer_referrer,
    offer_route,
    refuse_visit,
)
from anonproxy.anonymize.session import next_session_parts, session_parts
from anonproxy.model.hit import Dropped, Hit, VisitMark
from anonproxy.model.settings import Settings
from anonproxy.model.vocabularies import OTHER, OTHER_LANGUAGE, UNLISTED, DropReason


def build_context(settings: Settings, tagger: VisitTagger, countries: Countries) -> Context:
    """Prepare the settings for the steps.

    Reveals: nothing about a visitor
    """
    return Context(settings, tagger, countries)


@dataclass(slots=True, repr=False, eq=False)
class Draft:
    """A hit in the making, beside the request that it is made of. It never leaves the room."""

    request: RawRequest
    site: Site = field(init=False)
    client: Client = field(init=False)
    agent: Agent = field(init=False)
    matched: Route = field(init=False)
    marked: VisitMark | None = None
    time: int = 0
    method: str = "OTHER"
    route: str = UNLISTED
    status: int = 0
    size_bytes: int = 0
    duration_ms: int = 0
    network: str | None = None
    referrer: str = OTHER
    channel: str = "other"
    campaign: str | None = None
    language: str = OTHER_LANGUAGE
    rules: dict[str, str] = field(default_factory=dict)  # what decided, by column

    def to_hit(self) -> Hit:
        """Hand over the columns and nothing else.

        Reveals: what `model.columns` says of each column
        """
        visit, step, elapsed_s = self.marked[:3] if self.marked else (None, None, None)
        return Hit(
            self.time,
            self.site.name,
            self.method,
            self.route,
            self.matched.kind,
            self.status,
            self.size_bytes,
            self.duration_ms,
            visit,
            step,
            None if elapsed_s is None else bucket_elapsed(elapsed_s),
            self.network,
            self.client.network_class,
            self.client.country,
            self.referrer,
            self.channel,
            self.campaign,
            self.agent.browser,
            self.agent.os,
            self.agent.device,
            self.agent.bot,
            self.language,
        )


Step = Callable[[Draft, Context], DropReason | None]


def refuse_oversized(draft: Draft, context: Context) -> DropReason | None:
    """Drop a request with a text that no server would have taken.

    Reveals: nothing
    """
    request = draft.request
    texts = (
        request.raw_client,
        request.raw_host,
        request.raw_method,
        request.raw_target,
        request.raw_cookie,
        request.raw_set_cookie,
        request.raw_user_agent,
        request.raw_referrer,
        request.raw_accept_language,
    )
    return DropReason.OVERSIZED if any(map(is_oversized, texts)) else None


def find_site(draft: Draft, context: Context) -> DropReason | None:
    """Find the site by the Host header: the name itself, a `*.` above it, or the default.

    Reveals: the configured name of the site
    """
    found = context.find_site(draft.request.raw_host)
    if found is None:
        return DropReason.UNKNOWN_SITE
    name, draft.site = found
    draft.rules["site"] = SITE_RULES.get(name, "the host is one of the site's")
    return None


SITE_RULES: Final = {"*": "the site for any host"}


def floor_time(draft: Draft, context: Context) -> DropReason | None:
    """Floor the time to the resolution.

    Reveals: the quarter of an hour, the hour or the day
    """
    if not is_credible(draft.request.time_s):
        return DropReason.BAD_TIME
    draft.time = bucket_time(draft.request.time_s, context.resolution_s)
    draft.rules["time"] = "floored to privacy.time_resolution"
    return None


def read_client(draft: Draft, context: Context) -> DropReason | None:
    """Read the client address, and find class and country by it before it is truncated.

    Reveals: network class and country
    """
    client = context.read_client(draft.request.raw_client)
    if client is None:
        return DropReason.BAD_ADDRESS
    draft.client = client
    draft.rules["network_class"] = "the most specific of network_classes that holds the full address, else remote"
    draft.rules["country"] = "country file, by the widest network that may be stored"
    return None


def read_agent(draft: Draft, context: Context) -> DropReason | None:
    """Sort the User-Agent into browser, system, device and bot class, and the language into the list.

    Reveals: four short enums, and one configured language
    """
    draft.agent = parse_agent(draft.request.raw_user_agent, draft.request.is_agent_logged)
    draft.language = parse_language(draft.request.raw_accept_language, context.languages)
    draft.rules["agent"] = "families and classes, no versions, no models"
    draft.rules["language"] = "the most wanted, if among privacy.languages"
    return None


def bucket_numbers(draft: Draft, context: Context) -> DropReason | None:
    """Make the numbers coarse and the method one of four.

    Reveals: method, status, and the buckets of length and duration
    """
    request, rules = draft.request, draft.rules
    draft.method = fold_method(request.raw_method)
    draft.status = bucket_status(request.status)
    draft.size_bytes = bucket_size(request.size_bytes)
    draft.duration_ms = bucket_duration(request.duration_s)
    rules["method"] = "GET, HEAD, POST, else OTHER"
    rules["status"] = "registered codes, else their class"
    rules["size_bytes"] = rules["duration_ms"] = "lower bound of its bucket"
    return None


def match_route(draft: Draft, context: Context) -> DropReason | None:
    """Find the page type of the target.

    Reveals: kind and template of the page; a path that is neither configured, preset nor learned only as a candidate
    """
    target = draft.request.raw_target
    draft.matched = draft.site.match_route(target, draft.status, draft.request.is_private)
    draft.rules["kind"] = draft.matched.rule
    return None


def tag_visit(draft: Draft, context: Context) -> DropReason | None:
    """Give the visit its number, unless the visitor opted out, the page is nobody's business, or nobody is there.

    Reveals: which requests belong together, for as long as the hot tier lives; how long the visit has lasted
    """
    request, rules = draft.request, draft.rules
    refusal = refuse_visit(request.is_opted_out, draft.agent.bot, draft.matched.audience)
    if refusal:
        rules["visit"] = rules["step"] = rules["elapsed_s"] = refusal
        return None
    cookies = draft.site.session_cookies
    raw_parts = session_parts(draft.client.address, request.raw_cookie, request.raw_user_agent, cookies)
    is_page = is_pageview(draft.matched.kind, draft.method, draft.status)
    draft.marked = context.tagger.mark(draft.site.name, raw_parts, request.time_s, is_page)
    if raw_next_parts := next_session_parts(request.raw_set_cookie, cookies):
        context.tagger.hand_over(draft.site.name, raw_parts, raw_next_parts)
    rules["visit"] = VISIT_RULES[raw_parts[0]]
    rules["step"] = "pages of the visit so far"
    rules["elapsed_s"] = "seconds since the visit began, lower bound of its bucket"
    return None if draft.marked else DropReason.NO_KEY


VISIT_RULES: Final = {
    b"cookie": "keyed hash of the session cookie; the key is random and ends with its epoch",
    b"address": "keyed hash of address, User-Agent and site; the key is random and ends with its epoch",
}


def admit_route(draft: Draft, context: Context) -> DropReason | None:
    """Store the template, or the path itself if enough visits have shown it.

    Reveals: a template of the site's own, or a path that k visits shared
    """
    draft.route = admit(draft, context, "route", offer_route(draft.matched)) or UNLISTED
    return None


def admit_network(draft: Draft, context: Context) -> DropReason | None:
    """Store the narrowest network that enough visits share, if any.

    Reveals: the /24 or the IPv6 /32 at most, shared by k visits
    """
    draft.network = admit(draft, context, "network", offer_network(draft.client.networks, context.stores_network))
    return None


def admit_origin(draft: Draft, context: Context) -> DropReason | None:
    """Store where the visitor came from: a public site and a campaign, if listed or shared.

    Reveals: a listed or configured site, or a domain that k visits shared; a channel; likewise a campaign
    """
    request, site = draft.request, draft.site
    came_from = site.read_referrer(request.raw_referrer, request.raw_host)
    campaign = parse_campaign(find_query(request.raw_target), site.campaigns)
    draft.channel = campaign.channel or came_from.channel
    draft.rules["channel"] = "from the campaign" if campaign.channel else "from the referrer"
    draft.referrer = admit(draft, context, "referrer", offer_referrer(came_from)) or OTHER
    draft.campaign = admit(draft, context, "campaign", offer_campaign(campaign))
    return None


def admit(draft: Draft, context: Context, column: str, offer: Offer) -> str | None:
    """Choose what is stored of an open value, and count this visit for it.

    Reveals: a value that k visits of the epoch have shown, or one that needs no admission
    """
    visitor = draft.marked.visitor if draft.marked else None
    shared = context.admission.find_shared(draft.site.name, column, offer.candidates, visitor)
    draft.rules[column] = SHARED if shared else offer.rule
    return offer.choose(shared)


STEPS: Final[tuple[Step, ...]] = (
    refuse_oversized,
    find_site,
    floor_time,
    read_client,
    read_agent,
    bucket_numbers,
    match_route,
    tag_visit,
    admit_route,
    admit_network,
    admit_origin,
)


def take_steps(draft: Draft, context: Context) -> DropReason | None:
    """Walk the steps; the first that drops ends the walk.

    Reveals: why a request was dropped
    """
    for step in STEPS:
        if reason := step(draft, context):
            return reason
    return None


def anonymize(request: RawRequest, context: Context) -> Hit | Dropped:
    """Make a hit of a request, or say why there is none. Never raises.

    Reveals: what `model.columns` says of each column
    """
    try:
        draft = Draft(request)
        reason = take_steps(draft, context)
        return Dropped(reason) if reason else draft.to_hit()
    except Exception:  # its text may hold the request, so nothing of it is kept
        return Dropped(DropReason.INTERNAL_ERROR)

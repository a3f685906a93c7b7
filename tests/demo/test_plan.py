import ipaddress
import re
from collections import Counter
from urllib.parse import unquote_plus

import pytest

from anonproxy.demo.library import CONTENT, read_library
from anonproxy.demo.plan import KINDS, Plan, plan_visits, read_visitors
from anonproxy.demo.site import list_public_pages


@pytest.fixture(scope="module")
def plan() -> Plan:
    """The plan that the demonstration carries out."""
    return plan_visits(seed=7, visits=300)


def test_same_seed_same_plan(plan: Plan) -> None:
    """The plan depends on its seed and on nothing else."""
    assert plan == plan_visits(seed=7, visits=300)
    assert plan != plan_visits(seed=8, visits=300)


def test_every_kind_occurs_even_in_the_smallest_plan() -> None:
    """The smallest plan has one visit of each kind; a smaller one is refused."""
    assert sorted(visit.kind for visit in plan_visits(seed=1, visits=len(KINDS)).visits) == sorted(KINDS)
    with pytest.raises(ValueError, match="at least 17"):
        plan_visits(seed=1, visits=16)


def test_variety(plan: Plan) -> None:
    """Addresses of both families, all methods, many browsers and languages, opt-outs, forms and odd paths occur."""
    requests = [request for visit in plan.visits for request in visit.requests]
    headers = [pair for visit in plan.visits for pair in visit.raw_headers]
    addresses = [ipaddress.ip_address(visit.raw_address) for visit in plan.visits]
    assert 1_000 < plan.requests < 3_000
    assert {request.method for request in requests} == {"GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE"}
    assert len([address for address in addresses if address.version == 6]) > 50
    assert len([address for address in addresses if address.version == 4]) > 100
    assert len({value for name, value in headers if name == "User-Agent"}) > 15
    assert len({value for name, value in headers if name == "Accept-Language"}) > 15
    assert {name for name, _ in headers} >= {"Sec-GPC", "DNT", "Cookie", "X-Forwarded-For"}
    for pattern in (
        r"%25",
        r";jsessionid=",
        r"^/%ff",
        r"@",
        r"/\d{14}",
        r"utm_campaign=",
        r"token=",
        r".{4000}",
        r"\.env|wp-",
    ):
        assert any(re.search(pattern, request.raw_target) for request in requests), pattern


def test_enough_visits_share_networks_and_pages(plan: Plan) -> None:
    """Three /24 or /32 networks and a staff list have at least ten visitors, so that k = 10 admits something."""
    networks = Counter(
        ipaddress.ip_network((visit.raw_address, 32 if ":" in visit.raw_address else 24), strict=False)
        for visit in plan.visits
    )
    assert len([network for network, visits in networks.items() if visits >= 10]) >= 3
    openers = [
        visit for visit in plan.visits if any(each.raw_target == "/lists/autumn-reads" for each in visit.requests)
    ]
    assert len(openers) >= 10


def test_private_lists_stay_below_k() -> None:
    """Even in a plan of 2,000 visits fewer than ten open any one private list."""
    slugs = Counter(
        each.requests[-1].raw_target for each in plan_visits(7, 2_000).visits if each.kind == "private list"
    )
    assert slugs
    assert max(slugs.values()) < 10


def test_secrets_are_in_the_requests_and_nowhere_on_the_public_site(plan: Plan) -> None:
    """Each mark is really sent, is long enough to search for, and can't be found innocently."""
    sent = "\n".join(
        text
        for visit in plan.visits
        for text in (
            *(value for _, value in visit.raw_headers),
            *(f"{each.raw_target}\n{each.raw_referer}\n{each.raw_body.decode()}" for each in visit.requests),
        )
    )
    for visit in plan.visits:
        assert visit.raw_address in {mark.raw_value for mark in visit.raw_marks}
    innocent = "\n".join(list_public_pages()) + str(read_library().search("a"))
    for secret in plan.secrets():
        assert len(secret) >= 8
        assert secret not in innocent
    decoded = unquote_plus(sent)
    assert [secret for secret in plan.secrets() if secret not in sent and secret not in decoded] == []


def test_repr_shows_no_raw_value(plan: Plan) -> None:
    """Printing a plan shows kinds and methods only."""
    shown = repr(plan)
    assert [secret for secret in plan.secrets() if secret in shown] == []


def test_everybody_is_invented() -> None:
    """Mailboxes are reserved names, and no public page holds a search phrase."""
    visitors = read_visitors()
    assert all(mailbox.endswith(".example") for mailbox in visitors["people"]["mailboxes"])
    told = (CONTENT / "library.toml").read_text(encoding="utf-8").casefold()
    assert [term for term in visitors["questions"]["terms"] if term in told] == []

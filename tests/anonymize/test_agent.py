"""User-Agents: people's browsers by short enums, robots by class, and nobody with a screen reader among the robots."""

import sys
import time
from pathlib import Path

import pytest
from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.anonymize.agent import (
    AGENTS,
    BOTS_TABLE,
    MAX_CHARACTERS,
    NO_SCREEN,
    Agent,
    has_bot_marks,
    parse_agent,
    sort_agent,
)
from anonproxy.model.vocabularies import BOTS, BROWSERS, DEVICES, OSES

ROBOTS = [text for crawler in CRAWLER_USER_AGENTS_DATA for text in crawler["instances"]]
MIN_RECALL = 0.99

PEOPLE = [
    line.split("\t")
    for line in (Path(__file__).parent / "corpus" / "people_agents.tsv").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]

BLINK = "AppleWebKit/537.36 (KHTML, like Gecko)"
MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"
LINUX = "Mozilla/5.0 (X11; Linux x86_64)"
PHONE = f"Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X) {BLINK} Chrome/120.0.0.0 Mobile Safari/537.36"


@pytest.mark.parametrize(("browser", "os", "device", "user_agent"), PEOPLE)
def test_people_are_people(browser: str, os: str, device: str, user_agent: str) -> None:
    """A browser that a person uses is never a bot, and is sorted right."""
    assert parse_agent(user_agent) == Agent(browser, os, device, "")


COMPATIBLE = "Mozilla/5.0 (compatible; {})"
MOBILE_BOT = (
    f"Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X) {BLINK} Chrome/120.0.0.0 Mobile Safari/537.36 (compatible; %s)"
)


@pytest.mark.parametrize(
    ("user_agent", "bot"),
    [
        # An assistant fetches for a person who asked; a crawler gathers for a model. Same companies, both of each.
        (f"Mozilla/5.0 {BLINK}; compatible; ChatGPT-User/1.0; +https://openai.com/bot", "assistant"),
        (f"Mozilla/5.0 {BLINK}; compatible; GPTBot/1.2; +https://openai.com/gptbot", "ai"),
        (f"Mozilla/5.0 {BLINK}; compatible; OAI-SearchBot/1.0; +https://openai.com/searchbot", "ai"),
        (f"Mozilla/5.0 {BLINK}; compatible; Claude-User/1.0; +Claude-User@anthropic.com", "assistant"),
        (f"Mozilla/5.0 {BLINK}; compatible; ClaudeBot/1.0; +claudebot@anthropic.com", "ai"),
        (f"Mozilla/5.0 {BLINK}; compatible; Perplexity-User/1.0; +https://perplexity.ai/perplexity-user", "assistant"),
        (f"Mozilla/5.0 {BLINK}; compatible; PerplexityBot/1.0; +https://perplexity.ai/perplexitybot", "ai"),
        (f"Mozilla/5.0 {BLINK}; compatible; MistralAI-User/1.0; +https://docs.mistral.ai/robots", "assistant"),
        ("meta-externalfetcher/1.1", "assistant"),
        ("meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)", "ai"),
        ("Mozilla/5.0 (compatible; Bytespider; spider-feedback@bytedance.com)", "ai"),
        (f"{MAC} {BLINK} (Amazonbot/0.1; +https://developer.amazon.com/support/amazonbot)", "ai"),
        ("CCBot/2.0 (https://commoncrawl.org/faq/)", "ai"),
        (f"{PHONE} (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "search"),
        ("Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", "search"),
        ("Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)", "search"),
        ("DuckDuckBot/1.1; (+http://duckduckgo.com/duckduckbot.html)", "search"),
        (f"{MAC} {BLINK} Version/17.4 Safari/605.1.15 (Applebot/0.1; +http://www.apple.com/go/applebot)", "search"),
        ("Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)", "seo"),
        ("Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)", "seo"),
        ("Mozilla/5.0 (compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)", "monitor"),
        ("Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)", "monitor"),
        ("kube-probe/1.29", "monitor"),
        ("Feedly/1.0 (+http://www.feedly.com/fetcher.html; 12 subscribers)", "feed"),
        ("NetNewsWire (RSS Reader; https://netnewswire.com/)", "feed"),
        ("Mozilla/5.0 (compatible; archive.org_bot +http://archive.org/details/archive.org_bot)", "archiver"),
        ("curl/8.5.0", "library"),
        ("python-requests/2.31.0", "library"),
        ("Wget/1.21.4", "library"),
        ("Go-http-client/2.0", "library"),
        ("facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", "other"),
        (f"{LINUX} {BLINK} HeadlessChrome/120.0.0.0 Safari/537.36", "other"),
        ("Mozilla/5.0 (compatible; BrandNew/1.0)", "other"),
        ("SomethingBot/0.1", "other"),
        ("something of my own", "other"),
        ("Mozilla/5.0", "other"),
        ("-", "other"),
        ("   ", "other"),
        ("", "other"),
        ("\x00", "other"),
        ("机器人/1.0", "other"),
        ("\udcff\udcfe", "other"),
    ],
)
def test_robots_have_a_class(user_agent: str, bot: str) -> None:
    """A robot has its class, and what it pretends to be is not counted among browsers."""
    assert parse_agent(user_agent) == Agent(*NO_SCREEN, bot)


def test_recall_over_known_robots(capsys: pytest.CaptureFixture[str]) -> None:
    """Nearly all of two thousand known robots are recognised."""
    caught = sum(bool(parse_agent(text).bot) for text in ROBOTS)
    people = sum(bool(parse_agent(row[-1]).bot) for row in PEOPLE)
    marked = sum(has_bot_marks(text.lower()) for text in ROBOTS)
    with capsys.disabled():
        sys.stdout.write(
            f"\nrecall {caught / len(ROBOTS):.3f} of {len(ROBOTS)} robots, of those {marked / len(ROBOTS):.3f}"
        )
        sys.stdout.write(f" by marks alone; {people} of {len(PEOPLE)} people mistaken\n")
    assert len(ROBOTS) > 2_000
    assert caught / len(ROBOTS) >= MIN_RECALL
    assert people == 0


def test_tables_hold_the_vocabularies() -> None:
    """The tables name no class outside the published enums, and each class of bots has names."""
    assert {*AGENTS["browser"], *AGENTS["browser_marks"]} <= set(BROWSERS)
    assert AGENTS["os"].keys() <= set(OSES)
    assert {*BOTS_TABLE["names"], ""} == set(BOTS)


def test_a_log_without_user_agents_makes_nobody_a_robot() -> None:
    """What was not logged says nothing; what was sent empty is a robot's."""
    assert parse_agent("", is_logged=False) == Agent(*NO_SCREEN, "")
    assert parse_agent("curl/8", is_logged=False) == Agent(*NO_SCREEN, "")
    assert parse_agent("").bot == "other"


@given(st.one_of(st.text(), st.text(alphabet="Mozila/5.0 (X1;)bt-Chrome", max_size=200)))
def test_never_leaves_the_vocabularies(user_agent: str) -> None:
    """Whatever comes, the four answers are members of their enums."""
    browser, os, device, bot = parse_agent(user_agent)
    assert browser in BROWSERS
    assert os in OSES
    assert device in DEVICES
    assert bot in BOTS


@given(st.integers(80, 199), st.integers(0, 9999), st.sampled_from(["K", "SM-S918B", "Pixel 8", "CUBOT_X30"]))
def test_details_change_nothing(major: int, build: int, model: str) -> None:
    """A version, a build and a model don't show."""
    phone = f"Mozilla/5.0 (Linux; Android 14; {model}) {BLINK} Chrome/{major}.0.{build}.0 Mobile Safari/537.36"
    assert parse_agent(phone) == Agent("Chrome", "Android", "phone", "")


@pytest.mark.parametrize(
    "piece", ["Mozilla/5.0 (", "tizen", "compatible;", "bot", "a", " ", "(", "Chrome/1 ", "\udcff", "é"]
)
def test_costs_little(piece: str) -> None:
    """A hostile User-Agent takes no longer than any other, and only its start is kept in memory."""
    started = time.perf_counter()
    parse_agent(piece * (100_000 // len(piece)))
    assert time.perf_counter() - started < 1


def test_cache_holds_only_starts() -> None:
    """Two User-Agents that differ behind the limit are one entry of the cache."""
    sort_agent.cache_clear()
    start = "Mozilla/5.0 (" + "x" * MAX_CHARACTERS
    assert parse_agent(start + "one") == parse_agent(start + "two")
    assert sort_agent.cache_info().currsize == 1

"""Browser, system, device and bot class of a User-Agent: four short enums, no versions, no models.

ua-parser names the browser and the system, by its Rust engine only: the Python one takes a millisecond a new
User-Agent, which is a lever for an attacker. What is stored for each name stands in data/agents.toml, who is a bot in
data/bots.toml.
"""

import re
import tomllib
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

from ua_parser import Domain, load_lazy_builtins
from ua_parser.regex import Resolver

# No browser sends more than a few hundred characters; longer ones are attacks or nonsense, and their start will do.
MAX_CHARACTERS: Final = 1_000

# Distinct User-Agents that are remembered, in memory only; 4 MB if each is as long as it may be.
CACHED_AGENTS: Final = 4_096


class Agent(NamedTuple):
    """What is stored about a User-Agent; members of BROWSERS, OSES, DEVICES and BOTS."""

    browser: str
    os: str
    device: str
    bot: str


# Nobody looks at a screen: what a bot pretends to be is not counted among people's browsers.
NO_SCREEN: Final = ("Other", "Other", "other")

# The first mark found names the device; iPadOS calls itself a Mac, on purpose, and is a desktop here.
DEVICE_MARKS: Final = (
    (
        "other",
        re.compile(
            r"smart-?tv|\btv\b|hbbtv|web0s|tizen(?!.*mobile)|netcast|roku|bravia|\baft[a-z]|crkey"
            r"|playstation|xbox|nintendo|watch|dalvik/"
        ),
    ),
    ("tablet", re.compile(r"ipad|tablet(?! pc)|kindle|\bkf[a-z]{2,4}\b|playbook")),
    ("phone", re.compile(r"mobile|phone|ipod|midp|opera mini|nokia|blackberry")),
)
# Without a mark. Android browsers say "Mobile" on phones and nothing on tablets (Android's own advice to browsers).
DEVICE_BY_OS: Final = {
    "Windows": "desktop",
    "macOS": "desktop",
    "ChromeOS": "desktop",
    "Linux": "desktop",
    "Android": "tablet",
    "iOS": "phone",
}

# "bot" ends a name, and the maker of CUBOT phones is the one exception that people carry around. Robots also give an
# e-mail address, browsers none.
BOT_WORD: Final = re.compile(r"(?<!cu)bot(?![a-z])|\w@[a-z]")
# "(compatible; Something/1.0" is how robots introduce themselves; two old browsers did so, too.
COMPATIBLE: Final = re.compile(r"compatible;(?! ?(?:msie|konqueror))")


def _read_table(name: str) -> dict[str, Any]:
    return tomllib.loads(files("anonproxy.anonymize").joinpath("data", name).read_text(encoding="utf-8"))


def _fold_all(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(text.lower() for text in texts)


def _invert(table: dict[str, list[str]]) -> dict[str, str]:
    return {family: stored for stored, families in table.items() for family in families}


AGENTS: Final = _read_table("agents.toml")
BROWSER_BY_FAMILY: Final = _invert(AGENTS["browser"])
BROWSER_BY_MARK: Final = _invert(AGENTS["browser_marks"])
OS_BY_FAMILY: Final = _invert(AGENTS["os"])

BOTS_TABLE: Final = _read_table("bots.toml")
BOT_NAMES: Final = tuple((name, bot) for bot, names in BOTS_TABLE["names"].items() for name in _fold_all(names))
BOT_MARKS: Final = _fold_all(BOTS_TABLE["marks"]["anywhere"])
PEOPLE_START: Final = _fold_all(BOTS_TABLE["marks"]["people_start_with"])
PEOPLE_CONTAIN: Final = _fold_all(BOTS_TABLE["marks"]["people_contain"])


@cache
def load_resolver() -> Resolver:
    """Load the public list of browsers and systems once it is needed: it takes longer than all else at a start.

    Reveals: nothing about a visitor
    """
    return Resolver(load_lazy_builtins())


# Of a log without User-Agents nobody can tell who is a bot. That all are would be the greater mistake: nothing would be
# counted.
NOT_LOGGED: Final = Agent(*NO_SCREEN, "")


def parse_agent(raw_user_agent: str, is_logged: bool = True) -> Agent:
    """Sort a User-Agent into the enums; one that says nothing is a bot of class `other`, unless none is logged at all.

    Reveals: browser, system and device class, or the class of bot; no version, no model
    """
    if not is_logged:
        return NOT_LOGGED
    return sort_agent(raw_user_agent[:MAX_CHARACTERS].encode("ascii", "replace").decode("ascii").strip(" \"'"))


@lru_cache(CACHED_AGENTS)
def sort_agent(user_agent: str) -> Agent:
    """Sort a User-Agent that is ASCII and not too long, so that the cache stays small.

    Reveals: as parse_agent
    """
    bot = parse_bot(user_agent)
    if bot:
        return Agent(*NO_SCREEN, bot)
    folded = user_agent.lower()
    families = load_resolver()(user_agent, Domain.USER_AGENT | Domain.OS)
    browser = BROWSER_BY_FAMILY.get(families.user_agent.family, "Other") if families.user_agent else "Other"
    marked = next((browser for mark, browser in BROWSER_BY_MARK.items() if mark in folded), browser)
    os = OS_BY_FAMILY.get(families.os.family, "Other") if families.os else "Other"
    return Agent(marked, os, _parse_device(folded, os), bot)


def name_agent(raw_user_agent: str) -> str:
    """Name what sends a User-Agent in a word or two: a browser, or a class of bot.

    Reveals: the browser, or one of ten classes
    """
    agent = parse_agent(raw_user_agent)
    return f"bot: {agent.bot}" if agent.bot else agent.browser


def parse_bot(user_agent: str) -> str:
    """Name the class of bot, or "" for a person: names first, then the marks that programs leave.

    Reveals: one of ten classes
    """
    folded = user_agent.lower()
    named = next((bot for name, bot in BOT_NAMES if name in folded), "")
    return named or ("other" if has_bot_marks(folded) else "")


def has_bot_marks(folded: str) -> bool:
    """Tell a program by the words and the shape of its User-Agent, in small letters.

    Reveals: whether it looks like a browser's
    """
    return (
        any(mark in folded for mark in BOT_MARKS)
        or bool(BOT_WORD.search(folded) or COMPATIBLE.search(folded))
        or not (folded.startswith(PEOPLE_START) or any(mark in folded for mark in PEOPLE_CONTAIN))
        or (folded.startswith("mozilla/") and "(" not in folded)
    )


def _parse_device(folded: str, os: str) -> str:
    marked = next((device for device, mark in DEVICE_MARKS if mark.search(folded)), "")
    return marked or DEVICE_BY_OS.get(os, "other")

"""What the visitors of the demonstration will do: a seed in, requests as data out. Nothing is sent here.

Everything that begins with raw_ stands for something that can identify a person; `Plan.marks` lists all of it, so that
afterwards it can be searched for in every byte that was written.
"""

import ipaddress
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from random import Random
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

from anonproxy.demo.library import CONTENT, read_library
from anonproxy.demo.patrons import SESSION_COOKIE
from anonproxy.demo.site import list_public_pages

HOST = "library.millbrook.example"
ORIGIN = f"https://{HOST}"
FORM = "application/x-www-form-urlencoded"
UNRESERVED = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the visitor's browser would send it; headers that all requests of a visit share stand there."""

    method: str
    raw_target: str = field(repr=False)
    raw_referer: str = field(default="", repr=False)
    raw_body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, order=True)
class RawMark:
    """Something that must not be written anywhere, and what sort of thing it is."""

    sort: str
    raw_value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Visit:
    """A few requests in a row by one visitor, and all the marks in them that could name the visitor."""

    kind: str
    raw_address: str = field(repr=False)
    raw_headers: tuple[tuple[str, str], ...] = field(repr=False)
    requests: tuple[Request, ...]
    raw_marks: tuple[RawMark, ...] = field(repr=False)

    def first(self) -> "Visit":
        """Return the same visit, ended after its first request."""
        return replace(self, requests=self.requests[:1])


@dataclass(frozen=True, slots=True)
class Plan:
    visits: tuple[Visit, ...]

    @property
    def requests(self) -> int:
        return sum(len(visit.requests) for visit in self.visits)

    def marks(self) -> list[RawMark]:
        """List everything in the plan that must not be written anywhere, each once, as people type it."""
        return sorted({mark for visit in self.visits for mark in visit.raw_marks})

    def secrets(self) -> list[str]:
        """List the same without its sort."""
        return sorted({mark.raw_value for mark in self.marks()})


@dataclass(slots=True)
class Story:
    """What one visitor does, while it is being told."""

    dice: Random
    address: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    marks: list[RawMark] = field(default_factory=list)

    def get(self, *targets: str) -> None:
        self.requests += [Request("GET", target) for target in targets]

    def post(self, target: str, **form: str) -> None:
        self.requests.append(Request("POST", target, raw_body=urlencode(form).encode()))

    def mark(self, sort: str, value: str) -> str:
        """Remember a value as secret, and return it."""
        self.marks.append(RawMark(sort, value))
        return value

    def token(self, length: int = 24) -> str:
        return self.mark("token", "".join(self.dice.choices(UNRESERVED, k=length)))

    def session_id(self) -> str:
        return self.mark("session id", f"{self.dice.getrandbits(128):032x}")

    def term(self) -> str:
        return quote_plus(self.mark("search phrase", self.dice.choice(read_visitors()["questions"]["terms"])))

    def person(self) -> str:
        people = read_visitors()["people"]
        return self.mark("name", f"{self.dice.choice(people['first'])}.{self.dice.choice(people['last'])}")

    def email(self) -> str:
        mailbox = self.dice.choice(read_visitors()["people"]["mailboxes"])
        return self.mark("e-mail address", f"{self.person()}{self.dice.randrange(1950, 2010)}@{mailbox}")

    def barcode(self) -> str:
        return self.mark("card number", f"21234{self.dice.randrange(10**9):09d}")

    def pin(self) -> str:
        """Return a PIN; by itself it is too short to be searched for, so the mark is the field as it is sent."""
        pin = f"{self.dice.randrange(10**6):06d}"
        self.mark("PIN", f"pin={pin}")
        return pin

    def record(self) -> str:
        return f"/record/{self.dice.choice(list(read_library().books))}"

    def choose(self, table: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return self.dice.choices(table, [row.get("weight", 1) for row in table])[0]

    def fill(self, text: str) -> str:
        """Put something new and secret into each {blank} of a text."""
        makers = {
            "{term}": self.term,
            "{token}": self.token,
            "{person}": self.person,
            "{email}": self.email,
            "{barcode}": self.barcode,
            "{pin}": self.pin,
            "{session}": self.session_id,
        }
        for name, make in makers.items():
            if name in text:
                text = text.replace(name, make())
        return text


@cache
def read_visitors() -> dict[str, Any]:
    """Read the cast from the package, once."""
    return tomllib.loads((CONTENT / "visitors.toml").read_text(encoding="utf-8"))


# Who comes


def come_as_person(story: Story) -> None:
    """Come from one of the networks, with a browser, a language and perhaps a wish not to be followed."""
    network = story.choose(read_visitors()["network"])
    come_from(story, network)
    agents = read_visitors()["agent"]
    shared = [agent for agent in agents if agent["name"] == network.get("agent")]
    say_agent(story, story.choose(shared or agents)["text"])
    story.headers.append(("Accept", "text/html,application/xhtml+xml,*/*;q=0.8"))
    story.headers.append(("Accept-Language", story.dice.choice(network["languages"])))
    if story.dice.random() < 0.1:
        story.headers.append(story.dice.choice([("Sec-GPC", "1"), ("Sec-GPC", "1"), ("DNT", "1")]))
    if story.dice.random() < 0.15:  # a session from last week that the site has long forgotten
        story.headers.append(("Cookie", f"{SESSION_COOKIE}={story.session_id()}; theme=large-print"))


def come_with_text_browser(story: Story) -> None:
    """Come with Lynx or w3m, as many blind readers do."""
    network = story.choose(read_visitors()["network"])
    come_from(story, network)
    say_agent(story, story.choose(read_visitors()["text_browser"])["text"])
    story.headers.append(("Accept-Language", network["languages"][0]))


def come_as_scanner(story: Story) -> None:
    """Come as a script."""
    come_from(story, {"cidr": "45.148.8.0/22"})
    say_agent(story, "python-requests/2.32.5")


def come_as_robot(story: Story) -> None:
    """Come as one of the well-known robots and do what that one does."""
    robot = story.choose(read_visitors()["robot"])
    come_from(story, robot)
    say_agent(story, robot["text"])
    ROBOT_WALKS[robot["walk"]](story)


def come_from(story: Story, network: dict[str, Any]) -> None:
    """Take an address of the network, and write it as one of the ways in which proxies write it."""
    address = choose_address(story.dice, ipaddress.ip_network(network["cidr"]), network.get("hosts"))
    story.address = story.mark("address", str(address))
    forms = FORWARDED_FORMS[address.version]
    [form] = story.dice.choices(list(forms), list(forms.values()))
    story.headers.append(("X-Forwarded-For", form.format(address)))


FORWARDED_FORMS = {
    4: {"{}": 88, "10.0.0.14, {}": 6, "::ffff:{}": 3, "{}:51234": 3},
    6: {"{}": 94, "fd00::14, {}": 4, "[{}]:443": 2},
}
"""How X-Forwarded-For may look, and in how many of a hundred visits. The rightmost address is the visitor's."""


def choose_address(
    dice: Random, network: ipaddress.IPv4Network | ipaddress.IPv6Network, hosts: int | None
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Choose a host of the network, or one of its first few; never one that looks like a network's own name."""
    size = min(network.num_addresses, hosts + 2 if hosts else network.num_addresses)
    while True:
        address = network.network_address + dice.randrange(2, size)
        if int(address) % 256 not in (0, 255):
            return address


def say_agent(story: Story, text: str) -> None:
    """Name the program that sends the requests."""
    story.headers.append(("User-Agent", story.mark("User-Agent", text)))


# What visitors do


def browse(story: Story) -> None:
    """Open a popular page, then some others."""
    pages = list_public_pages()
    hot = ("/", "/hours", "/events", "/events/story-time", "/news/longer-hours-at-harbor")
    story.get(story.dice.choice(hot), *story.dice.sample(pages, story.dice.randrange(1, 5)))


def search(story: Story) -> None:
    """Ask the catalogue something that one would ask nobody else, and look at a book."""
    term = story.term()
    story.get("/", f"/search?q={term}", f"/search?q={term}&page=2", story.record())


def look_up(story: Story) -> None:
    """Look for something harmless and see whether it is in."""
    number = story.record().rpartition("/")[2]
    story.get(f"/search?q={story.dice.choice(['river', 'detectives', 'gardening', 'bread', 'owls'])}")
    story.get(f"/record/{number}", f"/api/availability?record={number}")


def borrow(story: Story) -> None:
    """Try to place a hold, log in with card and PIN, place it, look at the account, log out."""
    record = story.record()
    number = record.rpartition("/")[2]
    story.get(record)
    story.post("/hold", record=number)
    story.get(f"/login?next={quote_plus(record)}")
    story.post("/login", barcode=story.barcode(), pin=story.pin(), next=record)
    story.get(record)
    story.post("/hold", record=number)
    story.get("/account/holds", "/account", "/account/checkouts")
    story.post("/logout")


def read_to_children(story: Story) -> None:
    """Look at the pages for children."""
    story.get("/kids", "/kids/storytime", f"/record/{story.dice.choice(read_library().shelf('Children')).number}")


def worry(story: Story) -> None:
    """Read about a health or legal trouble and search for more."""
    topic = read_library().topics[story.dice.choice(["health", "health", "law-and-money"])]
    story.get(f"/topics/{topic.slug}", f"/topics/{topic.slug}/{story.dice.choice(topic.pages).slug}")
    story.get(f"/search?q={story.term()}")


def follow_campaign(story: Story) -> None:
    """Open the link of a newsletter, a poster or a post, made for this reader alone."""
    query = story.fill(story.choose(read_visitors()["campaign"])["query"])
    story.get(f"/events?{query}", "/events/story-time", "/hours/harbor")


def reset_pin(story: Story) -> None:
    """Open the link that was sent by mail, and choose a new PIN."""
    token = story.token(32)
    story.get(f"/reset?token={token}&email={quote_plus(story.email())}")
    story.post("/reset", token=token, pin=story.pin())


def forget_pin(story: Story) -> None:
    """Ask for such a link."""
    story.get("/login", "/forgot")
    story.post("/forgot", email=story.email())


def ask(story: Story) -> None:
    """Send the librarians a question in confidence."""
    story.get("/contact")
    text = story.dice.choice(read_visitors()["messages"]["texts"])
    story.post("/contact", email=story.email(), question=story.mark("message", text))


def open_list(story: Story) -> None:
    """Open a list that the staff made."""
    story.get("/lists", f"/lists/{story.dice.choice(STAFF_LISTS)}")


STAFF_LISTS = ("autumn-reads", "autumn-reads", "read-before-the-walk")


def open_private_list(story: Story) -> None:
    """Open a list with a name and a trouble in its address."""
    slugs = [slug for slug in read_library().lists if slug not in STAFF_LISTS]
    story.get("/lists", f"/lists/{story.mark('private page', story.dice.choice(slugs))}")


def download(story: Story) -> None:
    """Fetch a file."""
    story.get("/downloads", f"/downloads/{story.dice.choice(list(read_library().downloads))}")


def scan(story: Story) -> None:
    """Look for other people's software, as somebody does on every public site, every day."""
    doors = ["/wp-login.php", "/.env", "/.git/config", "/phpmyadmin/", "/xmlrpc.php", "/admin/", "/vendor/phpunit.xml"]
    story.get(*story.dice.sample(doors, 4), f"/wp-content/uploads/{story.token()}.php")


def be_odd(story: Story) -> None:
    """Send what breaks naive log cleaners: identifiers in paths, double encoding, strange methods, endless targets."""
    email, barcode = story.email(), story.barcode()
    twice = quote(quote(email, safe=""), safe="")
    wide = quote(barcode.translate({48 + digit: 0xFF10 + digit for digit in range(10)}))
    story.get(
        f"/events;jsessionid={story.session_id()}",
        f"/account/{email}",
        f"/account/{twice}",
        f"/patron/{barcode}/notices",
        f"/patron/{wide}",
        f"/hours/..%2f..%2f{story.token()}",
        f"/%ff%fe/{story.token()}",
        "/lists/" + story.token(4_000),
        f"/search?{urlencode({'q': email, 'card': barcode})}",
    )
    story.requests += [
        Request("HEAD", "/"),
        Request("OPTIONS", "/events"),
        Request("PUT", f"/record/{barcode}", raw_body=barcode.encode()),
        Request("DELETE", "/lists/autumn-reads"),
    ]


def crawl(story: Story) -> None:
    """Read the rules and the sitemap, then some pages."""
    story.get("/robots.txt", "/sitemap.xml", *story.dice.sample(list_public_pages(), 4), story.record())


def read_feed(story: Story) -> None:
    """Fetch the news feed."""
    story.get("/feed.xml")


def watch(story: Story) -> None:
    """See whether the home page answers."""
    story.requests.append(Request("HEAD", "/"))
    story.get("/")


ROBOT_WALKS: dict[str, Callable[[Story], None]] = {"crawl": crawl, "feed": read_feed, "watch": watch}


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of visit: how many of a hundred are of it, and what is done in it, one act after the other."""

    weight: int
    acts: tuple[Callable[[Story], None], ...]
    finish: Callable[[Story], list[Request]]


def arrive_somehow(story: Story) -> list[Request]:
    """Put a Referer on every request as a browser does: elsewhere first, then the page before; and load its style."""
    return follow_links(story, story.fill(story.choose(read_visitors()["referrer"])["text"]))


def follow_links(story: Story, referrer: str = "") -> list[Request]:
    """Put a Referer on every request but the first, and load the style sheet and the sign of the first page."""
    before, requests = referrer, []
    for request in story.requests:
        requests.append(replace(request, raw_referer=before))
        before = ORIGIN + request.raw_target
    page = ORIGIN + story.requests[0].raw_target
    assets = [Request("GET", f"/static/{name}", page) for name in ("site.css", "mark.svg")]
    return [requests[0], *assets, *requests[1:]]


def send_bare(story: Story) -> list[Request]:
    """Leave the requests as they are: programs say nothing about where they come from."""
    return story.requests


KINDS = {
    "browsing": Kind(28, (come_as_person, browse), arrive_somehow),
    "searching": Kind(16, (come_as_person, search), arrive_somehow),
    "looking up": Kind(8, (come_as_person, look_up), arrive_somehow),
    "borrowing": Kind(9, (come_as_person, borrow), arrive_somehow),
    "children": Kind(5, (come_as_person, read_to_children), arrive_somehow),
    "worry": Kind(5, (come_as_person, worry), arrive_somehow),
    "campaign": Kind(9, (come_as_person, follow_campaign), follow_links),
    "reset": Kind(2, (come_as_person, reset_pin), follow_links),
    "forgotten PIN": Kind(1, (come_as_person, forget_pin), arrive_somehow),
    "question": Kind(2, (come_as_person, ask), arrive_somehow),
    "list": Kind(8, (come_as_person, open_list), arrive_somehow),
    "private list": Kind(1, (come_as_person, open_private_list), arrive_somehow),
    "download": Kind(2, (come_as_person, download), arrive_somehow),
    "text browser": Kind(1, (come_with_text_browser, search), send_bare),
    "scanner": Kind(2, (come_as_scanner, scan), send_bare),
    "odd": Kind(1, (come_as_person, be_odd), send_bare),
    "robot": Kind(8, (come_as_robot,), send_bare),
}


def plan_visits(seed: int, visits: int) -> Plan:
    """Plan this many visits, every kind among them; the same seed gives the same plan.

    Raises: ValueError when there are fewer visits than kinds
    """
    if visits < len(KINDS):
        raise ValueError(f"a plan needs at least {len(KINDS)} visits to hold one of every kind")
    dice = Random(seed)  # noqa: S311 - a cast of characters that everybody can repeat, not a secret
    weights = [kind.weight for kind in KINDS.values()]
    names = [*KINDS, *dice.choices(list(KINDS), weights, k=visits - len(KINDS))]
    dice.shuffle(names)
    return Plan(tuple(plan_visit(name, dice) for name in names))


def plan_showcase(seed: int) -> Plan:
    """Plan a few visits of one request each, to show what becomes of a request; `kind` tells what happens in it."""
    dice = Random(seed)  # noqa: S311 - as above
    return Plan(tuple(plan_scene(scene, dice) for scene in read_visitors()["scene"]))


def plan_scene(scene: dict[str, Any], dice: Random) -> Visit:
    """Plan a scene as the table tells it, its blanks filled in."""
    story = Story(dice)
    story.address = story.mark("address", str(choose_address(dice, ipaddress.ip_network(scene["cidr"]), None)))
    story.headers.append(("X-Forwarded-For", story.address))
    say_agent(story, scene["agent"])
    story.headers += [(name, story.fill(value)) for name, value in scene["headers"].items()]
    body = story.fill(scene.get("body", "")).encode()
    request = Request(scene["method"], story.fill(scene["target"]), story.fill(scene["referrer"]), body)
    return Visit(scene["title"], story.address, tuple(story.headers), (request,), tuple(story.marks))


def plan_reading(seed: int, visits: int, paths: Sequence[str]) -> Plan:
    """Plan visits to a site that we know nothing of: each opens a few of these pages, and changes nothing."""
    dice = Random(seed)  # noqa: S311 - as above
    return Plan(tuple(plan_reader(dice, paths) for _ in range(visits)))


def plan_reader(dice: Random, paths: Sequence[str]) -> Visit:
    """Plan a person or, now and then, a robot, who opens a few pages."""
    story = Story(dice)
    come_as_person(story) if dice.random() < 0.92 else come_as_robot(story)
    targets = [paths[0], *dice.choices(paths, k=dice.randrange(0, 4))]
    requests = [Request("GET", target) for target in targets]
    return Visit("reading", story.address, tuple(story.headers), tuple(requests), tuple(story.marks))


def plan_visit(name: str, dice: Random) -> Visit:
    """Plan one visit of this kind."""
    story = Story(dice)
    for act in KINDS[name].acts:
        act(story)
    requests = tuple(KINDS[name].finish(story))
    return Visit(name, story.address, tuple(story.headers), requests, tuple(story.marks))

"""What Millbrook Public Library holds and says: read once from content/, never changed."""

import csv
import tomllib
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any

CONTENT = files("anonproxy.demo") / "content"
RESULTS_PER_PAGE = 8
FIRST_RECORD = 204817


@dataclass(frozen=True, slots=True)
class Book:
    """One title in the catalogue, with the numbers that a library system would give it."""

    number: int
    title: str
    author: str
    year: int
    shelf: str
    subjects: tuple[str, ...]
    about: str

    @property
    def barcode(self) -> str:
        return f"31234{self.number * 7919 % 1_000_000_000:09d}"

    @property
    def call_number(self) -> str:
        return f"{self.shelf[:3].upper()} {self.author.split()[-1][:4].upper()} {self.year}"

    @property
    def copies(self) -> int:
        return 1 + self.number % 4

    @property
    def available(self) -> int:
        return self.number // 3 % (self.copies + 1)

    @property
    def cover(self) -> str:
        """Return the names of the cover's palette and pattern in the style sheet."""
        return f"c{self.number % 8} m{self.number // 8 % 5}"

    @property
    def words(self) -> str:
        return fold(" ".join((self.title, self.author, self.shelf, *self.subjects, self.about)))


@dataclass(frozen=True, slots=True)
class Branch:
    slug: str
    name: str
    street: str
    phone: str
    about: str
    services: list[str]
    hours: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Event:
    slug: str
    title: str
    day: str
    hour: str
    branch: str
    audience: str
    about: str


@dataclass(frozen=True, slots=True)
class TopicPage:
    slug: str
    title: str
    search: str
    about: str


@dataclass(frozen=True, slots=True)
class Topic:
    slug: str
    title: str
    about: str
    pages: list[TopicPage]


@dataclass(frozen=True, slots=True)
class Article:
    slug: str
    title: str
    date: date
    text: list[str]


@dataclass(frozen=True, slots=True)
class BookList:
    """A list of books that a reader made and gave a name: the address of the page may tell who and why."""

    slug: str
    title: str
    by: str
    search: str


@dataclass(frozen=True, slots=True)
class Download:
    name: str
    title: str
    lines: list[str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Library:
    books: dict[int, Book]
    branches: dict[str, Branch]
    events: dict[str, Event]
    topics: dict[str, Topic]
    articles: dict[str, Article]
    lists: dict[str, BookList]
    downloads: dict[str, Download]

    def search(self, query: str) -> list[Book]:
        """List the books that have every word of the query somewhere."""
        words = fold(query).split()
        return [book for book in self.books.values() if words and all(word in book.words for word in words)]

    def list_alike(self, book: Book) -> list[Book]:
        """List the other books: those with the same subjects first, then those of the same shelf."""

        def distance(other: Book) -> tuple[int, bool]:
            return -len(set(other.subjects) & set(book.subjects)), other.shelf != book.shelf

        return sorted((other for other in self.books.values() if other != book), key=distance)

    def shelf(self, *names: str) -> list[Book]:
        return [book for book in self.books.values() if book.shelf in names]


def fold(text: str) -> str:
    """Make two spellings of the same words equal."""
    return text.casefold().replace("’", "'")


def read_books() -> dict[int, Book]:
    """Read the catalogue; record numbers count up from the first."""
    rows = csv.DictReader((CONTENT / "books.csv").read_text(encoding="utf-8").splitlines())
    return {number: parse_book(number, row) for number, row in enumerate(rows, FIRST_RECORD)}


def parse_book(number: int, row: dict[str, str]) -> Book:
    """Make a book of one row of the table."""
    subjects = tuple(row["subjects"].split(";"))
    return Book(number, row["title"], row["author"], int(row["year"]), row["shelf"], subjects, row["about"])


def parse_topic(table: dict[str, Any]) -> Topic:
    """Make a topic and its pages of one table."""
    pages = [TopicPage(**page) for page in table["page"]]
    return Topic(table["slug"], table["title"], table["about"], pages)


@cache
def read_library() -> Library:
    """Read the whole library from the package, once."""
    told = tomllib.loads((CONTENT / "library.toml").read_text(encoding="utf-8"))
    return Library(
        books=read_books(),
        branches={each["slug"]: Branch(**each) for each in told["branch"]},
        events={each["slug"]: Event(**each) for each in told["event"]},
        topics={each["slug"]: parse_topic(each) for each in told["topic"]},
        articles={each["slug"]: Article(**each) for each in told["article"]},
        lists={each["slug"]: BookList(**each) for each in told["list"]},
        downloads={each["name"]: Download(**each) for each in told["download"]},
    )

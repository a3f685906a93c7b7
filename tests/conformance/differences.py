"""What the proxy may change, and why: the only differences that the suite allows.

docs/operations.md, "What the proxy changes", says the same to the sysadmin.
"""

from typing import Final

from tests.conformance.wire import Fields, Message

# Headers of an answer that aren't compared, and why.
FREE: Final = {
    b"date": "two answers aren't given in the same second",
    b"keep-alive": "says how long the site's own connection lives (RFC 9110 section 7.6.1)",
    b"proxy-connection": "was never meant for anybody but a proxy",
    b"connection": "is compared as a set: only close, keep-alive, and upgrade with a WebSocket pass",
}
_OPTIONS: Final = {b"close", b"keep-alive", b"upgrade", b"te"}

# Headers that the site gets beyond those that were sent.
ADDED: Final = {
    b"x-forwarded-proto": "how the visitor came",
    b"x-forwarded-host": "which host was asked for",
}
# Headers that the site doesn't get.
REMOVED: Final = {
    b"x-forwarded-for": "names the visitor", b"forwarded": "names the visitor", b"x-real-ip": "names the visitor",
    b"via": "names the visitor's proxy", b"keep-alive": "is about the visitor's connection",
    b"proxy-connection": "is about the visitor's connection", b"http2-settings": "no change to HTTP/2 on the way",
    b"expect": "the proxy says 100 (Continue) itself, as nginx does, so that no upload waits for the site",
}  # fmt: skip


def options(fields: Fields) -> set[bytes]:
    """Return what a message says of its connection."""
    lines = [value for name, value in fields if name.lower() == b"connection"]
    return {option.strip().lower() for option in b",".join(lines).split(b",")} & _OPTIONS


def is_open_ended(answer: Message) -> bool:
    """Tell whether an answer ends with its connection."""
    return not answer.get(b"content-length") and not answer.get(b"transfer-encoding")


def comparable_answer(answer: Message, direct: Message) -> dict[str, object]:
    """Return what of an answer must be the same; `direct` is what it is compared with.

    An answer that ends with the connection comes in chunks, and therefore as HTTP/1.1: who gets half of it can tell.
    """
    free = set(FREE)
    start = answer.start
    if is_open_ended(direct):
        free |= {b"transfer-encoding"}
        start = start.partition(b" ")[2]
    return {
        "start": start.rstrip(),
        "fields": [(name, value) for name, value in answer.fields if name.lower() not in free],
        "body": answer.body,
        "trailers": answer.trailers,
        "whole": answer.is_whole,
        "interim": [(one.start, one.fields) for one in answer.interim if one.status != 100],
    }


def comparable_request(request: Message) -> dict[str, object]:
    """Return what of a request must be the same at the site."""
    free = ADDED.keys() | REMOVED.keys() | {b"connection"}
    return {
        "start": request.start,
        "fields": [(name, value) for name, value in request.fields if name.lower() not in free],
        "connection": options(request.fields),
        "body": request.body,
        "trailers": request.trailers,
    }

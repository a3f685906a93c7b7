"""One record for each request, exactly once: whether it was answered, failed, was aborted, or could not be read."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from anonproxy.anonymize.request import RawRequest
from anonproxy.clock import Clock

Sink = Callable[[RawRequest], None]
Count = Callable[[str], None]


@dataclass(slots=True, repr=False)
class Visitor:
    """One connection: its raw address, and its requests that aren't finished; None is one that could not be read."""

    raw_peer: str
    is_trusted: bool
    unfinished: dict[str, RawRequest | None] = field(default_factory=dict)


class Records:
    """The visitors that are connected, and what they have asked for."""

    def __init__(self, sink: Sink, count: Count, clock: Clock) -> None:
        self._sink = sink
        self._count = count
        self._clock = clock
        self._visitors: dict[str, Visitor] = {}

    @property
    def unfinished(self) -> int:
        """Return the number of requests that are being served."""
        return sum(len(visitor.unfinished) for visitor in self._visitors.values())

    def count_connections(self, key_of: Callable[[str], bytes | None]) -> Counter[bytes]:
        """Count connections by a key of the address, but for trusted proxies', which are many people's."""
        keys = (key_of(visitor.raw_peer) for visitor in self._visitors.values() if not visitor.is_trusted)
        return Counter(key for key in keys if key)

    def open(self, client_id: str, visitor: Visitor) -> None:
        """Remember a visitor who has connected."""
        self._visitors[client_id] = visitor
        self._count("connected")

    def visitor(self, client_id: str) -> Visitor:
        """Return a visitor who is connected."""
        return self._visitors[client_id]

    def begin(self, client_id: str, flow_id: str) -> None:
        """Note that a request is being served, whatever it will turn out to be."""
        self._visitors[client_id].unfinished[flow_id] = None
        self._count("begun")

    def request(self, client_id: str, flow_id: str) -> RawRequest | None:
        """Return the record of a request that isn't finished and could be read."""
        return self._visitors[client_id].unfinished.get(flow_id)

    def finish(self, client_id: str, flow_id: str) -> None:
        """Hand over a record; a second call for the same request finds nothing to do."""
        visitor = self._visitors.get(client_id)
        if visitor is None or flow_id not in visitor.unfinished:
            return
        request = visitor.unfinished.pop(flow_id)
        self._count("requests")
        try:
            if request is None:
                raise LookupError("the request could not be read")
            request.duration_s = max(0.0, self._clock() - request.time_s)
            self._sink(request)
        except Exception:  # whatever it is, its text may hold the request: count it and forget it
            self._count("dropped_internal_error")

    def close(self, client_id: str) -> None:
        """Finish what a visitor left unfinished, and forget the visitor."""
        for flow_id in tuple(self._visitors[client_id].unfinished):
            self.finish(client_id, flow_id)
        del self._visitors[client_id]
        self._count("disconnected")

    def close_all(self) -> None:
        """Finish everything."""
        for client_id in tuple(self._visitors):
            self.close(client_id)

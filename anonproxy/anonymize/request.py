"""The raw request. It exists in memory only and never travels past this room."""

from dataclasses import dataclass


@dataclass(slots=True, repr=False, eq=False)
class RawRequest:
    """One request as it came in, from a proxy, a log stream or a log line.

    Shape:   text fields are UTF-8 decoded with `surrogateescape`, so that no byte is lost or guessed
    Units:   time_s in unix seconds, size_bytes of the response body, duration_s until its last byte
    Reveals: everything, which is why its repr shows nothing
    """

    time_s: float
    raw_client: str  # client address as text, chosen by the caller among the hops
    raw_host: str = ""  # Host header or :authority
    raw_method: str = "GET"
    raw_target: str = "/"  # request target: path, query, possibly absolute-form
    status: int = 0  # 0: no answer was sent
    size_bytes: int = 0
    duration_s: float = 0.0
    raw_cookie: str = ""  # Cookie header
    raw_set_cookie: str = ""  # cookies that the answer sets, as the visitor will send them back
    raw_user_agent: str = ""
    raw_referrer: str = ""
    raw_accept_language: str = ""
    is_opted_out: bool = False  # Sec-GPC: 1 or DNT: 1
    is_private: bool = False  # the site answered Cache-Control: private or no-store
    is_agent_logged: bool = True  # an old log may not have the User-Agent: then raw_user_agent says nothing

    def __repr__(self) -> str:
        return "RawRequest(…)"

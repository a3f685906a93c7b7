"""The dashboard is for this machine, or for who has logged in; and every answer says so to browsers and caches."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from pydantic import ValidationError

from anonproxy.model.settings import WebSettings
from anonproxy.reports.session import Session
from anonproxy.web import auth
from anonproxy.web.auth import hash_password
from anonproxy.web.guard import HEADERS, keep_local, read_basic
from anonproxy.web.pages import STYLE_NAME
from tests.web.served import Dashboard, serving

PASSWORD = "library card"
FORM = "application/x-www-form-urlencoded"
TARGETS = ("/", "/report/pages", "/live", "/hidden", "/api", "/api/pages.json", "/api/pages.csv", "/nothing", "/login")


@pytest.fixture(scope="module")
def hashed() -> Iterator[str]:
    """Return a hash of the password that is quickly looked at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auth, "COST", 2**4)
        yield hash_password(PASSWORD)


@pytest.fixture
def locked(session: Session, hashed: str) -> Iterator[Dashboard]:
    """Serve a dashboard with a password, behind a server that ends HTTPS on the same machine."""
    with serving(
        session, password_hash=hashed, allowed_hosts=["figures.example.org"], trusted_proxies=["127.0.0.1"]
    ) as served:
        yield served


def log_in(dashboard: Dashboard, password: str = PASSWORD, target: str = "/", **headers: str) -> tuple[int, str]:
    """Send the form; return the status and the cookie."""
    form = urlencode({"password": password, "next": target})
    answer = dashboard.ask("/login", "POST", form, Content_Type=FORM, **headers)
    return answer.status, (answer.headers.get("Set-Cookie") or "").partition(";")[0]


@pytest.mark.parametrize("target", TARGETS)
def test_every_answer_has_the_headers(dashboard: Dashboard, target: str) -> None:
    """No answer may be framed, sniffed, cached by others, or load anything from elsewhere, errors included."""
    answer = dashboard.ask(target)
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert "Server" not in answer.headers


def test_only_the_style_sheet_may_be_kept(dashboard: Dashboard) -> None:
    """The style sheet and the sign hold no figures, and may be kept; the sheet's name changes with it."""
    assert "immutable" in dashboard.ask(STYLE_NAME).headers["Cache-Control"]
    assert "max-age" in dashboard.ask("/icon.svg").headers["Cache-Control"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", ""])
def test_other_names_are_refused(dashboard: Dashboard, host: str) -> None:
    """A name that somebody else has pointed at this machine shows no figures (DNS rebinding)."""
    answer = dashboard.ask("/", Host=host)
    assert answer.status == 421
    assert "allowed_hosts" in answer.body


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9902", "LOCALHOST", "[::1]:9902", "[::1]"])
def test_this_machine_is_let_in(dashboard: Dashboard, host: str) -> None:
    """This machine's own names are answered, with any port."""
    assert dashboard.ask("/", Host=host).status == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
def test_without_a_password_no_server_may_stand_in_front(dashboard: Dashboard, header: str) -> None:
    """A server in front, which would show the figures to anybody, is noticed and told what to set."""
    answer = dashboard.ask("/", **{header: "192.0.2.1"})
    assert answer.status == 403
    assert "password_hash" in answer.body


PUBLIC = {"allowed_hosts": ("figures.example.org",), "trusted_proxies": ("127.0.0.1",)}
REFUSED = {
    "no password": (PUBLIC, "password_hash"),
    "open to the network": ({"listen": "0.0.0.0:80", "password_hash": "x"}, "allowed_hosts"),
    "open to any address": ({"listen": "[::]:80"}, "allowed_hosts"),
    "in clear": ({"allowed_hosts": ("a.example",), "password_hash": "x"}, "certificate and key"),
    "half a certificate": ({"certificate": "a.pem"}, "belong together"),
    "a header that anybody may send": ({"user_header": "Remote-User"}, "trusted_proxies"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_does_not_start_open_to_others(name: str) -> None:
    """What would show the figures to anybody, or the password, is refused with the remedy."""
    settings, remedy = REFUSED[name]
    with pytest.raises(ValidationError, match=remedy):
        WebSettings.model_validate(settings)


@pytest.mark.parametrize("target", TARGETS[:-1])
def test_nothing_is_shown_without_the_password(locked: Dashboard, target: str) -> None:
    """Every page asks for the password first, and says nothing; a program gets a status."""
    answer = locked.ask(target)
    assert answer.status == (401 if target.startswith("/api/") else 303)
    assert "visits" not in answer.body
    if answer.status == 303:
        assert "/login" in answer.headers["Location"]


def test_logging_in_and_out(locked: Dashboard) -> None:
    """The password opens a session, whose cookie no script and no other site can use; logging out ends it."""
    status, cookie = log_in(locked, target="/report/pages?period=7d")
    assert status == 303
    assert locked.ask("/", Cookie=cookie).status == 200
    form = locked.ask("/logout", "POST", "", Cookie=cookie, Content_Type=FORM)
    assert form.status == 303
    assert locked.ask("/", Cookie=cookie).status == 303


def test_the_cookie_is_for_https_and_this_site_only(locked: Dashboard) -> None:
    """The session's cookie is bound to the host, to HTTPS and to this site, and ends by itself."""
    form = urlencode({"password": PASSWORD})
    cookie = locked.ask("/login", "POST", form, Content_Type=FORM).headers["Set-Cookie"]
    assert cookie.startswith("__Host-anonproxy=")
    for word in ("HttpOnly", "Secure", "SameSite=strict", "Path=/", "Max-Age=43200"):
        assert word in cookie
    assert locked.ask("/login").headers["Strict-Transport-Security"]


def test_a_session_ends_by_itself(locked: Dashboard) -> None:
    """After twelve hours the password is asked for again."""
    _, cookie = log_in(locked)
    locked.world.time_s += 12 * 3600 + 1
    assert locked.ask("/", Cookie=cookie).status == 303


def test_guessing_is_slowed_down(locked: Dashboard) -> None:
    """After five wrong passwords even the right one has to wait; others don't."""
    client = {"X_Forwarded_For": "192.0.2.7"}
    statuses = [log_in(locked, f"guess {number}", **client)[0] for number in range(6)]
    assert statuses[:4] == [403] * 4
    assert statuses[-1] == 429
    assert log_in(locked, **client)[0] == 429
    assert log_in(locked, X_Forwarded_For="192.0.2.8")[0] == 303
    locked.world.time_s += 60
    assert log_in(locked, **client)[0] == 303


def test_programs_send_the_password_with_the_request(locked: Dashboard) -> None:
    """The API takes the password as HTTP Basic, whatever the user is called."""
    right, wrong = "YW55Om9uZTpsaWJyYXJ5IGNhcmQ=", "OmxpYnJhcnkgY2FyZHM="
    assert read_basic(f"Basic {right}") == "one:library card"
    assert locked.ask("/api/pages.json", Authorization="Basic OmxpYnJhcnkgY2FyZA==").status == 200
    assert locked.ask("/api/pages.json", Authorization=f"Basic {wrong}").status == 401
    assert locked.ask("/api/pages.json", Authorization="Basic \\").status == 401


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}], ids=str
)
def test_forms_of_other_sites_are_refused(locked: Dashboard, headers: dict[str, str]) -> None:
    """A page of somebody else's can neither log in nor log out in a visitor's name."""
    assert log_in(locked, **headers)[0] == 403
    assert locked.ask("/logout", "POST", "", **headers).status == 403


def test_own_forms_are_taken(locked: Dashboard) -> None:
    """The form of the page itself is taken, as browsers send it."""
    origin = {"Origin": "https://figures.example.org", "Host": "figures.example.org", "Sec_Fetch_Site": "same-origin"}
    assert log_in(locked, **origin)[0] == 303


def test_a_form_that_is_too_long_is_a_wrong_password(locked: Dashboard) -> None:
    """Nobody fills the memory with a form."""
    assert locked.ask("/login", "POST", "password=" + "x" * 100_000, Content_Type=FORM).status == 403


def test_the_server_in_front_may_know_who_it_is(session: Session) -> None:
    """A header names who has logged in elsewhere, if the server that is trusted sends it; from others it is nothing."""
    settings: dict[str, Any] = {"user_header": "Remote-User", "allowed_hosts": ["figures.example.org"]}
    with serving(session, None, trusted_proxies=["127.0.0.1"], **settings) as trusted:
        assert trusted.ask("/", Remote_User="ada").status == 200
        assert trusted.ask("/").status == 401
    with serving(session, None, trusted_proxies=["192.0.2.1"], **settings) as stranger:
        assert stranger.ask("/", Remote_User="ada").status == 401


@pytest.mark.parametrize("target", ["//evil.example", "/\\evil.example", "https://evil.example", "", "/a\r\nb", "x"])
def test_nobody_is_sent_elsewhere(dashboard: Dashboard, target: str) -> None:
    """After logging in or choosing colours one comes back to the dashboard, whatever the address says."""
    assert keep_local(target) == "/"
    answer = dashboard.ask("/prefer?" + urlencode({"theme": "dark", "back": target}))
    assert (answer.status, answer.headers["Location"]) == (303, "/")


def test_faults_are_told_without_what_was_asked(
    session: Session, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """When a page of ours fails, the visitor gets a page, and the log a place: never a value that was asked for."""
    with serving(session) as broken:
        monkeypatch.setattr(Session, "run", lambda *_: 1 / 0)
        answer = broken.ask("/?where=route%3D%2Fsecret-page")
    assert answer.status == 500
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    said = "".join(capfd.readouterr())
    assert "ZeroDivisionError" in said
    assert "secret-page" not in said
    assert "127.0.0.1" not in said


def test_nothing_is_logged_about_who_looks(dashboard: Dashboard, capfd: pytest.CaptureFixture[str]) -> None:
    """Requests of the staff leave no line."""
    dashboard.ask("/?period=7d")
    dashboard.ask("/nothing")
    assert capfd.readouterr() == ("", "")

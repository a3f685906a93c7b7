"""What a child is told."""

from anonproxy.model.settings import Settings
from anonproxy.proxy.child import Assignment
from tests.proxy.conftest import make_settings


def test_assignment_arrives_whole() -> None:
    """Settings and open files arrive as they were sent, networks and profiles included."""
    settings = make_settings(8000, trusted_proxies=["10.0.0.0/8", "2001:db8::/32"], forward_client="truncated")
    strict = Settings.model_validate({**settings.model_dump(mode="json"), "profile": "strict"})
    for told in (settings, strict):
        assignment = Assignment(told, parent=7, counters_fd=3, channel_fd=4, index=1, listen_fds=(5, 6), lock_fds=(7,))
        assert Assignment.from_json(assignment.to_json()) == assignment
        assert assignment.inherited_fds == (3, 4, 5, 6, 7)

"""What a worker does beside serving."""

import asyncio
from collections import Counter

import pytest

from anonproxy.anonymize.request import RawRequest
from anonproxy.clock import steady
from anonproxy.proxy import worker
from anonproxy.proxy.addon import AnonproxyAddon
from anonproxy.proxy.talkers import WINDOW_S, Talkers
from tests.proxy.conftest import PATIENCE_S, make_settings


def test_addresses_are_forgotten_though_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered of an address goes when its time is over, also in a night without a single request."""
    monkeypatch.setattr(worker, "SWEEP_S", 0.01)
    addon = AnonproxyAddon(make_settings(1, max_requests_per_s=1), lambda _request: None, lambda _name: None)
    talkers, then_s = Talkers(0.0), steady() - WINDOW_S
    talkers.note(RawRequest(time_s=1.0, raw_client="203.0.113.7"), then_s)
    addon.rate_limit.admit(b"\xcb\x00\x71\x07", then_s)
    assert (len(talkers), len(addon.rate_limit)) == (2, 1)

    async def wait_for_silence() -> None:
        forgetting = asyncio.create_task(worker.forget_in_time(addon, talkers))
        async with asyncio.timeout(PATIENCE_S):
            while len(talkers) or len(addon.rate_limit):
                await asyncio.sleep(0.01)
        forgetting.cancel()

    asyncio.run(wait_for_silence())
    assert not talkers.report(steady(), Counter()).addresses

"""The same addon for a stock mitmdump, which then needs no `anonproxy run`.

    mitmdump --mode reverse:http://127.0.0.1:8000 -p 8080 --set anonproxy_config=anonproxy.toml \\
        -s "$(anonproxy run --script)"

The keys then live in the process that serves. Health, metrics and several workers are what `anonproxy run` adds.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Final

from mitmproxy import ctx
from mitmproxy.addonmanager import Loader

from anonproxy.config import read_settings
from anonproxy.ingest.recorder import Recorder
from anonproxy.model.errors import OperatorError
from anonproxy.proxy import quiet
from anonproxy.proxy.addon import OPTIONS, AnonproxyAddon
from anonproxy.proxy.child import EXIT_OPERATOR
from anonproxy.proxy.say import Say, say
from anonproxy.proxy.writer import Recording

CONFIG_OPTION: Final = "anonproxy_config"

# What mitmdump would print or let in; visitors come from public addresses, which it blocks otherwise.
_FORCED: Final[dict[str, object]] = {
    **OPTIONS,
    "flow_detail": 0,
    "termlog_verbosity": "error",
    "proxy_debug": False,
    "onboarding": False,
    "block_global": False,
}
# What would write traffic to disk, or bring some from there.
_REFUSED: Final = ("save_stream_file", "hardump", "rfile", "client_replay", "server_replay")


class Mitmdump:
    """Makes a mitmdump fit to carry the addon, or ends it."""

    def __init__(self) -> None:
        self.addons: list[AnonproxyAddon] = []  # mitmproxy calls what stands here as well
        self._recordings: list[Recording] = []

    def load(self, loader: Loader) -> None:
        """Fall silent, and learn where the configuration is."""
        quiet.silence()
        quiet.harden()
        default = os.environ.get("ANONPROXY_CONFIG", "anonproxy.toml")
        with _refusing():
            loader.add_option(CONFIG_OPTION, str, default, "Configuration of anonproxy.")
            ctx.options.process_deferred()  # here, where an error ends it: mitmproxy would go on without the addon

    def configure(self, _updated: Set[str]) -> None:
        """Refuse options that would keep what visitors do, turn off those that would print it, and build the addon."""
        with _refusing():
            for name in _REFUSED:
                if getattr(ctx.options, name, None):
                    raise OperatorError(f"mitmdump's option {name} would keep what visitors do; leave it out")
            changed = {name: value for name, value in _FORCED.items() if getattr(ctx.options, name) != value}
            if changed:
                ctx.options.update(**changed)
            if not self.addons:
                self._build()

    def running(self) -> None:
        """Start recording."""
        for recording in self._recordings:
            recording.start()
        say(Say.RECORDING)

    def done(self) -> None:
        """Finish every request, write what is pending, destroy the key."""
        for addon, recording in zip(self.addons, self._recordings, strict=True):
            addon.done()
            recording.close()

    def _build(self) -> None:
        settings = read_settings(Path(getattr(ctx.options, CONFIG_OPTION)))
        recording = Recording(Recorder(settings))
        self._recordings.append(recording)
        self.addons.append(AnonproxyAddon(settings, recording.record, lambda _name: None))


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """End mitmdump on any error: it would log the error and serve on without the addon."""
    try:
        yield
    except OperatorError as error:
        message = str(error)
    except Exception as error:
        message = f"mitmdump can't be made fit: {type(error).__name__}"
    else:
        return
    print(f"anonproxy: {message}", file=sys.stderr, flush=True)  # noqa: T201 - it speaks of the configuration
    raise SystemExit(EXIT_OPERATOR)


addons = [Mitmdump()]

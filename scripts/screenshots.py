"""Draw the pictures of the dashboard in docs/images: weeks of the demonstration's invented visitors, in a browser."""

import argparse
import tempfile
from pathlib import Path
from typing import Final, Literal

from playwright.sync_api import Browser, sync_playwright

from anonproxy.demo.history import write_history
from anonproxy.reports.session import Session
from tests.web.served import NOW, Dashboard, serving

IMAGES: Final = Path(__file__).parents[1] / "docs" / "images"
DAYS: Final = 75
VISITS_A_DAY: Final = 260
# Name of the file: path, width and height of the window, colours.
PICTURES: Final[dict[str, tuple[str, int, int, Literal["light", "dark"]]]] = {
    "dashboard-light": ("/?site=millbrook", 1280, 1190, "light"),
    "dashboard-dark": ("/?site=millbrook#section-visitors", 1280, 900, "dark"),
    "dashboard-phone": ("/?site=millbrook", 390, 900, "light"),
    "live": ("/live", 1280, 830, "light"),
}


def main() -> None:
    """Record the visitors, serve the dashboard, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser (default: %(default)s)")
    options = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        write_history(Path(folder), NOW, DAYS, VISITS_A_DAY)
        with serving(Session(Path(folder, "store"))) as dashboard, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
            for name in PICTURES:
                draw(browser, dashboard, name)


def draw(browser: Browser, dashboard: Dashboard, name: str) -> None:
    """Draw one picture."""
    target, width, height, colours = PICTURES[name]
    with browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=colours, locale="en-US", java_script_enabled=False
    ) as context:
        page = context.new_page()
        page.goto(dashboard.url + target)
        path = IMAGES / f"{name}.png"
        page.screenshot(path=path)
        print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

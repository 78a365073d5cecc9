"""A headless browser for tests of pages; tests are skipped without chromium."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def browser() -> Iterator:
    """A playwright browser with the system's chromium; nothing is downloaded."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(
            f"none of {', '.join(NAMES)} is on the path; install chromium, such as with apt-get"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # A container does not allow the sandbox, and its /dev/shm is small.
        chromium = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        yield chromium
        chromium.close()


def opened(browser, path: Path, address: str = "", **options):
    """A page opened from a file; ``page.asked`` lists what it tried to load, ``page.errors`` its
    errors."""
    page = browser.new_context(
        **{"viewport": {"width": 1300, "height": 1000}, **options}
    ).new_page()
    page.set_default_timeout(60_000)
    page.asked, page.errors = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(path.as_uri() + address)
    return page

"""A headless browser for tests of pages; tests are skipped where no chromium is found."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def browser() -> Iterator:
    """A playwright browser: the system's chromium, which no test downloads."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(
            f"none of {', '.join(NAMES)} is on the path; install chromium, such as with apt-get"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # In a container there is no room for the sandbox, and /dev/shm is small.
        chromium = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        yield chromium
        chromium.close()


def opened(browser, path: Path, address: str = "", **options):
    """A page at a file, with everything that it tried to load and every error that it met:
    ``page.asked`` and ``page.errors``."""
    page = browser.new_context(
        **{"viewport": {"width": 1300, "height": 1000}, **options}
    ).new_page()
    page.set_default_timeout(60_000)
    page.asked, page.errors = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(path.as_uri() + address)
    return page

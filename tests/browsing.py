"""A real browser for the report: pages opened from disk, with what went wrong on them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
PHONE, TABLET, DESK = (390, 844), (820, 1180), (1440, 900)
"""Widths and heights in CSS pixels that the report is looked at in."""
FLAGS = [
    f"--disable-{name}"
    for name in ("gpu", "quic", "background-networking", "component-update", "sync", "dev-shm-usage")
]


@dataclass
class Visit:
    """An open page and all that it must not do; the lists are still empty when a test ends well."""

    page: Page
    errors: list[str] = field(default_factory=list)
    """Console errors and warnings, and exceptions that nobody caught."""
    requests: list[str] = field(default_factory=list)
    """Addresses asked for that are neither in the page nor beside it on disk."""
    dialogs: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        return self.errors + self.requests + self.dialogs


def open_browser() -> Iterator[Browser]:
    """Debian's chromium, headless; the tests are skipped, and say so, where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("NO BROWSER: the report's page is not tested; install chromium to test it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS, chromium_sandbox=False)
        yield browser
        browser.close()


@contextmanager
def visit(
    browser: Browser, path: Path, size: tuple[int, int] = DESK, *, dark: bool = False
) -> Iterator[Visit]:
    """The page at `path`, loaded, offline, as wide and high as `size`; asserts at the end that it did no wrong."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        offline=True,
        accept_downloads=True,
    )
    seen = Visit(context.new_page())
    page = seen.page
    page.on(
        "console", lambda line: seen.errors.append(line.text) if line.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("dialog", lambda dialog: (seen.dialogs.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda asked: None if _is_local(asked.url) else seen.requests.append(asked.url))
    try:
        page.goto(path.as_uri())
        yield seen
        assert seen.faults == []
    finally:
        context.close()


def _is_local(address: str) -> bool:
    return address.startswith(("file:", "data:", "blob:"))

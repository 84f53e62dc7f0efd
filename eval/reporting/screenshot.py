"""The top of a page as a picture, by the browser that is installed."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from eval.running.atomic import write_atomic

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH_PX, HEIGHT_PX = 1280, 1820
COLOURS = 128
"""A page of text and figures loses nothing that is seen, and is a third of the size."""
TIME_S, SETTLE_MS = 120, 8000


def screenshot(page: Path, target: Path) -> str | None:
    """Write the top of the page at `page` to `target` as PNG, 1280 px wide; why there is none, or None.

    Raises:
        RunFolderError: it cannot be written.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return f"no browser is installed; one of {', '.join(BROWSERS)} is needed"
    with tempfile.TemporaryDirectory() as scratch:
        shot = Path(scratch) / "shot.png"
        try:
            done = subprocess.run(
                _command(browser, page, shot), capture_output=True, timeout=TIME_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{browser} could not be used: {type(error).__name__}"
        if not shot.is_file():
            return f"{browser} made no picture, exit code {done.returncode}"
        write_atomic(target, _small(shot))
    return None


def _command(browser: str, page: Path, shot: Path) -> list[str]:
    options = [
        "--headless", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run",
        "--hide-scrollbars", "--force-device-scale-factor=1", f"--window-size={WIDTH_PX},{HEIGHT_PX}",
        f"--virtual-time-budget={SETTLE_MS}", f"--user-data-dir={shot.parent / 'profile'}", f"--screenshot={shot}",
    ]  # fmt: skip
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--no-sandbox")  # as root chromium starts in no other way
    return [browser, *options, page.resolve().as_uri()]


def _small(shot: Path) -> bytes:
    buffer = io.BytesIO()
    with Image.open(shot) as picture:
        picture.convert("RGB").quantize(COLOURS, method=Image.Quantize.MEDIANCUT).save(
            buffer, "PNG", optimize=True
        )
    return buffer.getvalue()

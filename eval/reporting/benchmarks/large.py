"""What it takes to report a large run: 1,000 cells of 200 prompts, from the run's folder to a page that answers.

python -m eval.reporting.benchmarks.large --out eval/reporting/benchmarks/large.md

The run is made by the store's own writers (`large_run.py`; some minutes). Building is `python eval/report.py` in a
process of its own, whose peak memory is the system's figure. The page is opened in headless chromium, which
playwright drives, with the pictures beside it; it is interactive when a click on a heading of the table has sorted
the rows.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from eval.reporting.benchmarks.large_run import fill

ROOT = Path(__file__).resolve().parents[3]
GOALS = {"built_s": 60.0, "peak_bytes": 1e9, "page_bytes": 15e6, "interactive_s": 5.0}
VISITS = 3
"""The page is opened so often, by a browser of its own each time; the middle one counts."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run"]
SORTED = """() => new Promise((done) => {
  const button = document.querySelector('th[aria-sort] button');
  button.click();
  // After the next frame the sorted rows are on the screen.
  requestAnimationFrame(() => setTimeout(() => done(button.closest('th').getAttribute('aria-sort'))));
})"""


@dataclass(frozen=True)
class Built:
    """What building took."""

    seconds: float
    cpu_s: float
    """Of the process and what it started: where others use the machine, seconds say more about them."""
    peak_bytes: int
    page_bytes: int


@dataclass(frozen=True)
class Opened:
    """What opening took, in seconds from the address to each."""

    loaded_s: float
    """DOMContentLoaded: every script of the page has run once."""
    interactive_s: float
    """The first click on a heading has sorted the table, and the browser has drawn it."""
    busy_s: float
    """What the page's thread was at work until then."""
    errors: tuple[str, ...]
    """What the page said on its console."""


def main(arguments: list[str] | None = None) -> int:
    """Make the run, build its report and open it; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--run", type=Path, help="keep the run here, and use it where it is there already")
    parser.add_argument("--out", type=Path, help="Markdown file; without it standard output")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="sdkit-large-") as scratch:
        root = given.run or Path(scratch) / "run"
        if not (root / "grid.json").is_file():
            fill(root, given.cells, given.pictures)
        built = build(root)
        visits = [open_page(root / "report.html") for _ in range(VISITS)]
    known = sorted((each for each in visits if each is not None), key=lambda each: each.interactive_s)
    opened = known[len(known) // 2] if known else None
    text = report(built, opened, given)
    if given.out is None:
        sys.stdout.write(text)
    else:
        given.out.write_text(text, encoding="utf-8")
    return int(any(value > GOALS[name] for name, value in _figures(built, opened).items()))


def build(root: Path) -> Built:
    """Build the tables and the page of the run in a process of its own."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, str(ROOT / "eval" / "report.py"), f"run={root}"],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    unit = 1 if sys.platform == "darwin" else 1024
    return Built(seconds, cpu, after.ru_maxrss * unit, (root / "report.html").stat().st_size)


def open_page(page: Path) -> Opened | None:
    """Open the page and sort its table once; None where no browser can be driven."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if browser is None:
        return None
    errors: list[str] = []
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=FLAGS, chromium_sandbox=False)
        tab = opened.new_context(viewport={"width": 1440, "height": 900}, offline=True).new_page()
        tab.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        devtools = tab.context.new_cdp_session(tab)
        devtools.send("Performance.enable")
        begun = time.perf_counter()
        tab.goto(page.resolve().as_uri(), wait_until="domcontentloaded", timeout=120_000)
        loaded = time.perf_counter() - begun
        direction = tab.evaluate(SORTED)
        done = time.perf_counter() - begun
        metrics = devtools.send("Performance.getMetrics")["metrics"]
        busy = next(each["value"] for each in metrics if each["name"] == "TaskDuration")
        opened.close()
    if direction not in ("ascending", "descending"):
        errors.append(f"the click on a heading sorted nothing: {direction}")
    return Opened(loaded, done, float(busy), tuple(errors))


def _figures(built: Built, opened: Opened | None) -> dict[str, float]:
    found = {
        "built_s": built.seconds,
        "peak_bytes": float(built.peak_bytes),
        "page_bytes": float(built.page_bytes),
    }
    return found if opened is None else found | {"interactive_s": opened.interactive_s}


def report(built: Built, opened: Opened | None, given: argparse.Namespace) -> str:
    """The table as Markdown."""
    from datetime import UTC, datetime

    from sdkit._cpu import cpu_name

    rows = [
        ("built", f"{built.seconds:.1f} s", f"{GOALS['built_s']:.0f} s"),
        ("processor time of it", f"{built.cpu_s:.1f} s", ""),
        ("peak memory of it", f"{built.peak_bytes / 1e6:.0f} MB", f"{GOALS['peak_bytes'] / 1e6:.0f} MB"),
        ("report.html", f"{built.page_bytes / 1e6:.1f} MB", f"{GOALS['page_bytes'] / 1e6:.0f} MB"),
    ]
    if opened is not None:
        rows += [
            ("page loaded", f"{opened.loaded_s:.2f} s", ""),
            ("first sort on the screen", f"{opened.interactive_s:.2f} s", f"{GOALS['interactive_s']:.0f} s"),
            ("the page's thread at work until then", f"{opened.busy_s:.2f} s", ""),
            ("errors on its console", f"{len(opened.errors)}", "0"),
        ]
    table = "\n".join(f"| {what} | {found} | {goal} |" for what, found, goal in rows)
    browser = "" if opened is not None else "\nNo browser was found: how fast the page opens is not known.\n"
    load = os.getloadavg()[0]
    return f"""# Reporting a large run

`python -m eval.reporting.benchmarks.large --out eval/reporting/benchmarks/large.md`

{given.cells:,} cells of {given.pictures:,} prompts, 16 scores a cell, features of 64 numbers, a filmstrip a cell;
pictures beside the page, which is opened {VISITS} times: the middle one counts.
On {cpu_name()}, {os.cpu_count()} cores, {datetime.now(UTC):%Y-%m-%d}; on average
{load:.1f} processes wanted to run in the last minute.

| what | found | goal, at most |
|---|--:|--:|
{table}
{browser}"""


if __name__ == "__main__":
    sys.exit(main())

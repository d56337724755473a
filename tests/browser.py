"""A web page as a real browser has it; tests that need one skip where there is none."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")


class Seen(NamedTuple):
    """What a browser made of a page.

    Attributes:
        found: what the probe returned, out of JSON.
        dom: the page at its end, HTML.
        said: what it wrote to the console.
        asked_for: the addresses that it tried to reach.
    """

    found: Any
    dom: str
    said: list[str]
    asked_for: set[str]


def browser() -> str:
    """The program; skips the test without one."""
    found = os.environ.get("BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None or not shutil.which(found):
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)}, and BROWSER names none")
    return found


def look(page: Path, scratch: Path, probe: str = "", width: int = 1280, dark: bool = False) -> Seen:
    """Open ``page`` in a window ``width`` pixels wide.

    Args:
        scratch: an empty folder.
        probe: the body of a JavaScript function, which is called when the page is loaded. For it, a
            copy of the page may run scripts that the page itself may not.
    """
    if probe:
        text = page.read_text(encoding="utf-8")
        run = f"document.title = JSON.stringify((() => {{{probe}}})());"
        script = f'<script>addEventListener("load", () => {{{run}}});</script></body>'
        page = scratch / "probed.html"
        text = re.sub(r"script-src [^;]+;", "script-src 'unsafe-inline';", text)
        page.write_text(text.replace("</body>", script), encoding="utf-8")
    log = scratch / "net.json"
    done = subprocess.run(
        [
            *(browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *(f"--user-data-dir={scratch / 'profile'}", f"--window-size={width},900"),
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            *("--enable-logging=stderr", f"--log-net-log={log}"),
            *("--virtual-time-budget=5000", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    title = html.unescape(re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)[1])
    events = json.loads(log.read_text())["events"]
    parameters = [one["params"] for one in events if isinstance(one.get("params"), dict)]
    return Seen(
        found=json.loads(title) if probe else None,
        dom=done.stdout,
        said=[line for line in done.stderr.splitlines() if ":CONSOLE" in line],
        asked_for={one["url"] for one in parameters if "url" in one},
    )

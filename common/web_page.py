"""Web pages in one file, which need no other file and no network, and run only their own script."""

from __future__ import annotations

import base64
import hashlib
import html
import re


def text(value: object) -> str:
    """``value`` as it stands between tags or in an attribute."""
    return html.escape(str(value))


def inline(value: str) -> str:
    """Escaped, with Markdown's ``code`` and **bold**."""
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", text(value))
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", escaped)


def document(title: str, style: str, body: str, script: str = "") -> str:
    """The whole page.

    Its security policy keeps it from loading anything, and from running anything but ``script``
    (JavaScript), whatever names of classes and layers ``body`` holds.
    """
    allowed = "'none'"
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
        allowed, body = f"'sha256-{digest}'", f"{body}\n<script>{script}</script>"
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(title)}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""

"""The HTML file: template, styles, bundled libraries, the page's own script and its data, all in one.

Scripts run only if the content security policy lists their digest, so that nothing a plugin or a record says can become
code; styles and pictures come from the file itself, and connections are forbidden.
"""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import json
from collections.abc import Mapping
from typing import Any

#: Bundled libraries, in the order they need (assets/vendor/README.md: versions, sources, licences).
VENDOR = ("dataTables.min.js", "d3.min.js", "plot.min.js")
#: The page's own script: these files, one after another, in one function.
APP = (
    "decode.js",
    "dom.js",
    "format.js",
    "filters.js",
    "plots.js",
    "compare.js",
    "table.js",
    "sheets.js",
    "record.js",
    "views.js",
    "main.js",
)


def render(data: Mapping[str, Any], title: str = "Dataset distillation, compared") -> str:
    """Return the page as HTML text; the same data gives the same page."""
    licences = {name.removesuffix(".min.js"): _licence(name) for name in VENDOR}
    scripts = [_asset("vendor", name) for name in VENDOR]
    scripts.append("(() => {\n'use strict';\n" + "\n".join(_asset("app", name) for name in APP) + "\n})();")
    digests = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    policy = (
        f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data: blob:;"
        " base-uri 'none'; form-action 'none'"
    )
    parts = {
        "@POLICY@": html.escape(policy, quote=False).replace('"', "&quot;"),
        "@TITLE@": html.escape(title),
        "@STYLE@": _asset("app", "page.css"),
        "@DATA@": embed({**data, "licences": licences}),
        "@SCRIPTS@": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    text = _asset("app", "page.html")
    head, _, rest = text.partition("@DATA@")  # data is put in last and never searched for markers
    for mark, value in parts.items():
        if mark != "@DATA@":
            head, rest = head.replace(mark, value), rest.replace(mark, value)
    return head + parts["@DATA@"] + rest


def embed(data: Any) -> str:
    """Return JSON that is safe inside a ``<script>`` element: no ``<``, ``>``, ``&`` or line separators as they are.

    Raises:
        ValueError: a number that is not finite.
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # A lone surrogate (from broken text) cannot be written as UTF-8.
    return text.encode("utf-8", "replace").decode("utf-8")


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _licence(name: str) -> str:
    return _asset("vendor", name.removesuffix(".min.js") + ".LICENSE.txt")


def _asset(*parts: str) -> str:
    return importlib.resources.files("ddbench.site").joinpath("assets", *parts).read_text("utf-8").rstrip("\n")

"""Take the pictures of docs/images from a built page: `python tools/site_pictures.py site/index.html`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "site"))

from browser import Browser  # noqa: E402


def main() -> None:
    """Open the page in light, dark and on a phone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(Path(profile), 1280, 960)
        try:
            shots = {
                "site-light": ("light", "#/", False),
                "site-dark": ("dark", "#/?claims=1", False),
                "site-phone": ("light", "#/", True),
                "site-gallery": ("light", "#/gallery", False),
                "site-plots": ("light", "#/results?show=ipc&kind=claimed&dataset=imagewoof", False),
            }
            for name, (scheme, fragment, phone) in shots.items():
                browser.scheme(scheme)
                browser.size(390 if phone else 1280, 1260 if phone else 960, mobile=phone, scale=1.5 if phone else 1)
                browser.open(chosen.page, fragment)
                browser.picture(chosen.out / f"{name}.png")
        finally:
            browser.close()


if __name__ == "__main__":
    main()

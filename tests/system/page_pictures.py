"""Takes the pictures of the page for the documentation, with the bundled models.

    python tests/system/page_pictures.py docs/pictures

Needs Chromium and its driver.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from support.browser import Browser, browser
from support.server_process import server_process

MODELS = Path(__file__).parents[2] / "deploy" / "models"
TEXT = "The train leaves at eight o'clock. My brother lives in a small town near the sea."
WORD = "Bruder"


def argument_parser() -> argparse.ArgumentParser:
    """The arguments of this script."""
    parser = argparse.ArgumentParser(description="Take the pictures of the page for the documentation.")
    parser.add_argument("folder", type=Path, help="where the pictures are written")
    return parser


def take(page: Browser, url: str, folder: Path) -> None:
    """Write `page-light.png`, `page-dark.png` and `page-telephone.png`."""
    page.resize(1100, 920)
    page.open(url)
    page.insert(TEXT)
    page.wait_until_done()
    page.point(next(it for it in page.all("#translation .word") if it.text == WORD))
    for colours in ("light", "dark"):
        page.emulate(prefers_color_scheme=colours)
        page.driver.save_screenshot(str(folder / f"page-{colours}.png"))
    page.emulate(prefers_color_scheme="light")
    page.resize(360, 780, scale=2)
    page.js("scroll(0, 0)")
    page.driver.save_screenshot(str(folder / "page-telephone.png"))


def main() -> None:
    """Run a server and a browser, and take the pictures."""
    folder = argument_parser().parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with (
        server_process([MODELS / "en-de" / "1", MODELS / "de-en" / "1"], "--http-port", "0") as server,
        browser() as page,
    ):
        take(page, server.http_url, folder)


if __name__ == "__main__":
    main()

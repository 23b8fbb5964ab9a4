"""The names of the interfaces and of the page, by which operators choose them."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman_service.errors import InvalidInput

GOOGLE = "google"
RIVA = "riva"
LIBRETRANSLATE = "libretranslate"
DEEPL = "deepl"
PAGE = "page"
INTERFACES = (GOOGLE, RIVA, LIBRETRANSLATE, DEEPL, PAGE)


def check_interfaces(names: Sequence[str]) -> None:
    """Raise InvalidInput for a name that is no interface, or that is there twice."""
    if not set(names) <= set(INTERFACES) or len(set(names)) < len(names):
        raise InvalidInput("interfaces", ",".join(names), f"{', '.join(INTERFACES)}, each at most once")

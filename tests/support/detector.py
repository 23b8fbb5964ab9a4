"""The detector of languages, loaded once for all tests of a process."""

from __future__ import annotations

from functools import cache

from dragoman_service.text.detection import Detector, load_detector


@cache
def detector() -> Detector:
    return load_detector()

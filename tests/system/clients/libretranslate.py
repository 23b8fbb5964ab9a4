"""libretranslatepy, deep-translator, and requests as Mastodon and Weblate make them. Argument: the server's address."""

import json
import sys

import requests
from deep_translator import LibreTranslator
from libretranslatepy import LibreTranslateAPI

url = sys.argv[1] + "/"
api = LibreTranslateAPI(url)
other = LibreTranslator(source="en", target="de", api_key="x", custom_url=url)
listed = api.languages()
found = {
    "translate": api.translate("Good morning!", "en", "de"),
    "detect": api.detect("This is English."),
    "languages": listed,
    "deep_translator": LibreTranslator(source="en", target="de", api_key="x", custom_url=url).translate(
        "Good morning!"
    ),
    "mastodon": requests.post(
        url + "translate",
        json={"q": ["<p>Good morning!</p>"], "source": "auto", "target": "de", "format": "html", "api_key": None},
        timeout=60,
    ).json(),
    "weblate": requests.post(
        url + "translate", json={"q": "Good morning!", "source": "en", "target": "de", "api_key": ""}, timeout=20
    ).json(),
}
try:
    api.translate("", "en", "de")
except Exception as error:
    found["error"] = f"{type(error).__name__}: {error}"
print(json.dumps(found))

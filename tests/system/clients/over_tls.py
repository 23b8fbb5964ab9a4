"""Clients of others over TLS, with a certificate of a private authority. Arguments: ADDRESS URL CA TOKEN."""

import json
import sys
from pathlib import Path

import certifi
import deepl
import grpc
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import translate_v3
from google.cloud.translate_v3.services.translation_service.transports import (
    TranslationServiceGrpcTransport,
    TranslationServiceRestTransport,
)

ADDRESS, URL, CA, TOKEN = sys.argv[1:]
TEXT = "Good morning!"


def google(client, **metadata):
    request = {
        "parent": "projects/p/locations/global", "contents": [TEXT], "mime_type": "text/plain",
        "source_language_code": "en", "target_language_code": "de",
    }  # fmt: skip
    return client.translate_text(request=request, **metadata).translations[0].translated_text


def refused(act):
    try:
        act()
    except Exception as error:
        return type(error).__name__
    return None


roots = grpc.ssl_channel_credentials(Path(CA).read_bytes())
channel = grpc.secure_channel(ADDRESS, roots)
by_channel = translate_v3.TranslationServiceClient(transport=TranslationServiceGrpcTransport(channel=channel))
by_key = translate_v3.TranslationServiceClient(client_options={"api_endpoint": ADDRESS, "api_key": TOKEN})
rest = TranslationServiceRestTransport(host=URL.removeprefix("https://"), credentials=AnonymousCredentials())
bearer = [("authorization", f"Bearer {TOKEN}")]
found = {
    "google_by_channel": google(by_channel, metadata=bearer),
    "google_by_key": google(by_key),
    "google_rest": google(translate_v3.TranslationServiceClient(transport=rest), metadata=[("x-api-key", TOKEN)]),
    "deepl": deepl.DeepLClient(TOKEN, server_url=URL, verify_ssl=CA).translate_text(TEXT, target_lang="DE").text,
    "libretranslate": requests.post(
        f"{URL}/translate", json={"q": TEXT, "source": "en", "target": "de", "api_key": TOKEN}, verify=CA, timeout=30
    ).json()["translatedText"],
    "no_token": refused(lambda: google(by_channel)),
    "unknown_authority": refused(lambda: requests.get(f"{URL}/languages", verify=certifi.where(), timeout=30)),
}
print(json.dumps(found))

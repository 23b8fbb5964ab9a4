"""google-cloud-translate, v3 over REST. Argument: address of the server, https://... or http://..."""

import json
import sys

from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import AnonymousCredentials
from google.cloud.translate_v3 import TranslationServiceClient
from google.cloud.translate_v3.services.translation_service.transports import TranslationServiceRestTransport

scheme, _, host = sys.argv[1].partition("://")
client = TranslationServiceClient(
    transport=TranslationServiceRestTransport(host=host, url_scheme=scheme, credentials=AnonymousCredentials())
)
parent = "projects/p/locations/global"
reply = client.translate_text(
    parent=parent,
    contents=["Good morning!"],
    mime_type="text/plain",
    source_language_code="en",
    target_language_code="de",
)
found = {
    "translate": [it.translated_text for it in reply.translations],
    "detect": client.detect_language(parent=parent, content="This is English.").languages[0].language_code,
    "languages": [it.language_code for it in client.get_supported_languages(parent=parent).languages],
}
try:
    client.translate_text(parent=parent, contents=["a"], target_language_code="zz")
except GoogleAPICallError as error:
    found["error"] = [type(error).__name__, error.code]
print(json.dumps(found))

"""google-cloud-translate, v2. Argument: address of the server."""

import json
import sys

from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import AnonymousCredentials
from google.cloud import translate_v2

client = translate_v2.Client(credentials=AnonymousCredentials(), client_options={"api_endpoint": sys.argv[1]})
found = {
    "translate": client.translate(["Good morning!", "<b>Two</b>"], source_language="en", target_language="de"),
    "detect": client.detect_language("This is English."),
    "languages": client.get_languages(target_language="en"),
}
try:
    client.translate("Good morning!", target_language="zz")
except GoogleAPICallError as error:
    found["error"] = [type(error).__name__, error.code, error.message]
print(json.dumps(found))

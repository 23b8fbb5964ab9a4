"""DeepL's glossaries: their routes, of v2 and v3."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from dragoman_service.interfaces.deepl.glossary_methods import GlossaryMethods
from dragoman_service.server.http.endpoint import Answer, HttpCall, Route
from dragoman_service.server.http.fields import Fields

_TSV = "text/tab-separated-values; charset=utf-8"
_CREATED, _NO_CONTENT = 201, 204

Method = Callable[[GlossaryMethods, str, Fields], Awaitable[object]]
"""Answers, given the glossary in the path (empty if there is none) and the fields of the request."""


def _route(path: str, verb: str, method: str, act: Method, status: int = 200, content_type: str = "") -> Route:
    async def handle(call: HttpCall) -> Answer:
        wanted = call.context.path_values.get("glossary", "")
        content = await act(GlossaryMethods(call.backend, call.answering), wanted, await call.fields())
        return Answer(content, status, content_type) if content_type else Answer(content, status)

    return Route((path,), method, handle, (verb,), has_body=verb in ("POST", "PUT", "PATCH"))


_V2, _V3 = "/v2/glossaries", "/v3/glossaries"
_ONE_V2, _ONE_V3 = f"{_V2}/{{glossary}}", f"{_V3}/{{glossary}}"
_DICTIONARIES = f"{_ONE_V3}/dictionaries"

ROUTES = (
    _route("/v2/glossary-language-pairs", "GET", "ListModels", lambda its, _, __: its.language_pairs()),
    _route(_V2, "GET", "ListGlossaries", lambda its, _, __: its.list_v2()),
    _route(_V2, "POST", "CreateGlossary", lambda its, _, fields: its.create_v2(fields), _CREATED),
    _route(_ONE_V2, "GET", "GetGlossary", lambda its, wanted, _: its.get_v2(wanted)),
    _route(f"{_ONE_V2}/entries", "GET", "GetGlossary", lambda its, wanted, _: its.entries_v2(wanted), 200, _TSV),
    _route(_ONE_V2, "DELETE", "DeleteGlossary", lambda its, wanted, _: its.delete_v2(wanted), _NO_CONTENT),
    _route(_V3, "GET", "ListGlossaries", lambda its, _, __: its.list_v3()),
    _route(_V3, "POST", "CreateGlossary", lambda its, _, fields: its.create_v3(fields), _CREATED),
    _route(_ONE_V3, "GET", "GetGlossary", lambda its, wanted, _: its.get_v3(wanted)),
    _route(_ONE_V3, "PATCH", "UpdateGlossary", lambda its, wanted, fields: its.update_v3(wanted, fields)),
    _route(_ONE_V3, "DELETE", "DeleteGlossary", lambda its, wanted, _: its.delete_v3(wanted), _NO_CONTENT),
    _route(f"{_ONE_V3}/entries", "GET", "GetGlossary", lambda its, wanted, fields: its.entries_v3(wanted, fields)),
    _route(_DICTIONARIES, "PUT", "UpdateGlossary", lambda its, wanted, fields: its.replace_dictionary(wanted, fields)),
    _route(
        _DICTIONARIES, "DELETE", "DeleteGlossary",
        lambda its, wanted, fields: its.delete_dictionary(wanted, fields), _NO_CONTENT,
    ),
)  # fmt: skip

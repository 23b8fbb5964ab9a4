"""The description of LibreTranslate's interface that its clients read at /spec (Swagger 2.0)."""

from __future__ import annotations

from typing import Any


def _parameter(name: str, *, required: bool = True, kind: str = "string", **more: Any) -> dict[str, Any]:
    return {"in": "formData", "name": name, "type": kind, "required": required, **more}


def _operation(summary: str, reply: dict[str, Any], *parameters: dict[str, Any]) -> dict[str, Any]:
    failed = {"description": "The request failed.", "schema": {"$ref": "#/definitions/error"}}
    responses = {"200": {"description": summary, "schema": reply}, **dict.fromkeys(("400", "403", "429"), failed)}
    return {"summary": summary, "tags": ["translate"], "parameters": list(parameters), "responses": responses}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_STRING = {"type": "string"}
_KEY = _parameter("api_key", required=False)
_DETECTED = _object(confidence={"type": "integer"}, language=_STRING)

SPEC: dict[str, Any] = {
    "swagger": "2.0",
    "info": {"title": "LibreTranslate's interface of Dragoman", "version": "1"},
    "consumes": ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"],
    "produces": ["application/json"],
    "paths": {
        "/translate": {
            "post": _operation(
                "Translate a text, or a list of texts",
                _object(translatedText=_STRING, detectedLanguage=_DETECTED, alternatives=_list(_STRING)),
                _parameter("q"),
                _parameter("source"),
                _parameter("target"),
                _parameter("format", required=False, enum=["text", "html"], default="text"),
                _parameter("alternatives", required=False, kind="integer", default=0),
                _KEY,
            )
        },
        "/detect": {"post": _operation("Detect the language of a text", _list(_DETECTED), _parameter("q"), _KEY)},
        "/languages": {
            "get": _operation("List the languages", _list(_object(code=_STRING, name=_STRING, targets=_list(_STRING))))
        },
        "/frontend/settings": {"get": _operation("Settings of a page", {"type": "object"})},
        "/health": {"get": _operation("Whether the server is ready", _object(status=_STRING))},
    },
    "definitions": {"error": _object(error=_STRING)},
}

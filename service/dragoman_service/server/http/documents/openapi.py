"""The OpenAPI description of `/v1/documents`."""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string"}
_NUMBER = {"type": "integer"}
_TIME = {"type": "string", "format": "date-time"}
_FAILED = {
    "description": "The call failed.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Status"}}},
}
_JOB = {
    "description": "How far the translation is.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Document"}}},
}
_ID = {"name": "id", "in": "path", "required": True, "schema": _TEXT}
_FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "contentMediaType": "application/octet-stream"},
        "sourceLanguage": _TEXT,
        "targetLanguage": _TEXT,
        "model": _TEXT,
        "allowPivot": {"type": "boolean"},
        "glossary": _TEXT,
    },
}

SCHEMAS: dict[str, Any] = {
    "Document": {
        "type": "object",
        "required": ["id", "name", "state", "texts", "textsDone"],
        "properties": {
            "id": _TEXT,
            "name": _TEXT,
            "state": {"type": "string", "enum": ["QUEUED", "RUNNING", "DONE", "FAILED"]},
            "sourceLanguage": _TEXT,
            "targetLanguage": _TEXT,
            "texts": _NUMBER,
            "textsDone": _NUMBER,
            "characters": _NUMBER,
            "problems": {
                "type": "array",
                "items": {"type": "object", "properties": {"place": _TEXT, "message": _TEXT}},
            },
            "problemCount": _NUMBER,
            "error": _TEXT,
            "content": _TEXT,
            "createTime": _TIME,
            "expireTime": _TIME,
        },
    }
}
PATHS: dict[str, Any] = {
    "/v1/documents": {
        "post": {
            "operationId": "CreateDocument",
            "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}},
            "responses": {"202": _JOB, "default": _FAILED},
        }
    },
    "/v1/documents/{id}": {
        "get": {
            "operationId": "GetDocument",
            "parameters": [
                _ID,
                {
                    "name": "wait",
                    "in": "query",
                    "required": False,
                    "description": "Seconds to wait for the end of the translation, at most 60.",
                    "schema": {"type": "number"},
                },
            ],
            "responses": {"200": _JOB, "default": _FAILED},
        },
        "delete": {
            "operationId": "DeleteDocument",
            "parameters": [_ID],
            "responses": {"200": {"description": "It is gone."}, "default": _FAILED},
        },
    },
    "/v1/documents/{id}/content": {
        "get": {
            "operationId": "GetDocumentContent",
            "parameters": [_ID],
            "responses": {
                "200": {"description": "The translated document.", "content": {"*/*": {}}},
                "default": _FAILED,
            },
        }
    },
}

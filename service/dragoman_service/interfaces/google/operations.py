"""Operations, which are done when they are returned, so that none is kept: an operation's name tells what it was."""

from __future__ import annotations

import re

from google.longrunning import operations_pb2
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from dragoman_protos.google import translation_v3_pb2 as pb
from dragoman_service.errors import NotFound, visible
from dragoman_service.interfaces.google.names import resource

CREATE, UPDATE, DELETE = "create", "update", "delete"
_ID = re.compile(f"({CREATE}|{UPDATE}|{DELETE})\\.(.+)")


def operation_name(kind: str, glossary_name: str) -> str:
    """The name of what was done to a glossary."""
    parent, _, glossary = glossary_name.rpartition("/glossaries/")
    return f"{parent}/operations/{kind}.{glossary}"


def parsed_operation(name: str) -> tuple[str, str]:
    """What was done to which glossary, by the name of the operation. Raises InvalidInput and NotFound."""
    found = resource("name", name, "operations")
    match = _ID.fullmatch(found.id)
    if match is None:
        raise NotFound(f"no operation {visible(name)!r}")
    return match[1], f"{found.parent}/glossaries/{match[2]}"


def made(kind: str, glossary: pb.Glossary) -> operations_pb2.Operation:
    """The operation that has made or changed a glossary."""
    if kind == CREATE:
        metadata: Message = pb.CreateGlossaryMetadata(
            name=glossary.name, state=pb.CreateGlossaryMetadata.SUCCEEDED, submit_time=glossary.submit_time
        )
    else:
        metadata = pb.UpdateGlossaryMetadata(
            glossary=glossary, state=pb.UpdateGlossaryMetadata.SUCCEEDED, submit_time=glossary.submit_time
        )
    return _done(operation_name(kind, glossary.name), metadata, glossary)


def deleted(glossary_name: str, when: Timestamp | None = None) -> operations_pb2.Operation:
    """The operation that has deleted a glossary."""
    state = pb.DeleteGlossaryMetadata.SUCCEEDED
    metadata = pb.DeleteGlossaryMetadata(name=glossary_name, state=state, submit_time=when)
    response = pb.DeleteGlossaryResponse(name=glossary_name, submit_time=when, end_time=when)
    return _done(operation_name(DELETE, glossary_name), metadata, response)


def _done(name: str, metadata: Message, response: Message) -> operations_pb2.Operation:
    operation = operations_pb2.Operation(name=name, done=True)
    operation.metadata.Pack(metadata)
    operation.response.Pack(response)
    return operation

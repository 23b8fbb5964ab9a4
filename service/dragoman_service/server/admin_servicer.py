"""The gRPC service `dragoman.admin.v1.ModelAdmin`: converts messages to calls of the rollout, and its state back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from dragoman_protos.admin.v1 import admin_pb2 as pb
from dragoman_protos.admin.v1 import admin_pb2_grpc
from dragoman_service.errors import Conflict, InvalidInput
from dragoman_service.repository.rollout import Rollout
from dragoman_service.repository.versions import VersionStatus
from dragoman_service.server.call_lifecycle import Answering

ADMIN_API = "dragoman_admin_v1"
"""Label of its calls in metrics."""
ADMIN_SERVICE_NAME = "dragoman.admin.v1.ModelAdmin"

_STATES = {
    "available": pb.VERSION_STATE_AVAILABLE,
    "serving": pb.VERSION_STATE_SERVING,
    "failed": pb.VERSION_STATE_FAILED,
    "unloaded": pb.VERSION_STATE_UNLOADED,
}


class AdminServicer(admin_pb2_grpc.ModelAdminServicer):
    """Servicer of the admin interface, to be registered with `Methods`."""

    def __init__(self, rollout: Rollout | None) -> None:
        self._rollout = rollout

    async def ListVersions(self, request: pb.ListVersionsRequest, answering: Answering) -> pb.ModelVersions:  # noqa: N802
        return await self._answer(lambda rollout: _no_change())

    async def Refresh(self, request: pb.RefreshRequest, answering: Answering) -> pb.ModelVersions:  # noqa: N802
        return await self._answer(lambda rollout: rollout.refresh())

    async def LoadModel(self, request: pb.LoadModelRequest, answering: Answering) -> pb.ModelVersions:  # noqa: N802
        return await self._answer(lambda rollout: rollout.load(_required("model", request.model), request.version))

    async def UnloadModel(self, request: pb.UnloadModelRequest, answering: Answering) -> pb.ModelVersions:  # noqa: N802
        return await self._answer(lambda rollout: rollout.unload(_required("model", request.model), request.version))

    async def SetAlias(self, request: pb.SetAliasRequest, answering: Answering) -> pb.ModelVersions:  # noqa: N802
        return await self._answer(
            lambda rollout: rollout.set_alias(
                _required("model", request.model),
                _required("alias", request.alias),
                _required("version", request.version),
                request.share,
            ),
        )

    async def DeleteAlias(self, request: pb.DeleteAliasRequest, answering: Answering) -> pb.ModelVersions:  # noqa: N802
        return await self._answer(
            lambda rollout: rollout.delete_alias(_required("model", request.model), _required("alias", request.alias)),
        )

    async def _answer(self, change: Callable[[Rollout], Coroutine[None, None, None]]) -> pb.ModelVersions:
        """Make a change. Returns the versions after it. A cancelled call does not interrupt the change."""
        if self._rollout is None:
            raise Conflict("this server has no repository: start it with --repository")
        await asyncio.shield(asyncio.create_task(change(self._rollout)))
        await self._rollout.settled()
        return pb.ModelVersions(versions=[_version_info(status) for status in self._rollout.status()])


def _version_info(status: VersionStatus) -> pb.VersionInfo:
    return pb.VersionInfo(
        model=status.name,
        version=status.version,
        state=_STATES[status.state],
        reason=status.reason,
        aliases=[pb.AliasInfo(alias=alias, share=it.share) for alias, it in sorted(status.aliases.items())],
        is_default=status.default,
    )


def _required(field: str, value: str) -> str:
    if not value:
        raise InvalidInput(field, value, "a name")
    return value


async def _no_change() -> None:
    pass

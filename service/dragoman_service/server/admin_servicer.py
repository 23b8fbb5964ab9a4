"""The gRPC service `dragoman.admin.v1.ModelAdmin`: converts messages to calls of the rollout, and its state back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from dragoman_protos.admin.v1 import admin_pb2 as pb
from dragoman_protos.admin.v1 import admin_pb2_grpc
from dragoman_service.errors import Conflict, InvalidInput
from dragoman_service.repository.rollout import Rollout
from dragoman_service.repository.versions import VersionStatus
from dragoman_service.server.access.gate import Gate
from dragoman_service.server.access.tokens import ADMIN
from dragoman_service.server.call_lifecycle import Answering, Context
from dragoman_service.server.metrics import Metrics

ADMIN_SERVICE_NAME = "dragoman.admin.v1.ModelAdmin"

_STATES = {
    "available": pb.VERSION_STATE_AVAILABLE,
    "serving": pb.VERSION_STATE_SERVING,
    "failed": pb.VERSION_STATE_FAILED,
    "unloaded": pb.VERSION_STATE_UNLOADED,
}


class AdminServicer(admin_pb2_grpc.ModelAdminServicer):
    """Servicer of the admin interface. Its calls have the same metrics as those of the public interface."""

    def __init__(self, rollout: Rollout | None, metrics: Metrics, gate: Gate | None = None) -> None:
        """Without a gate everyone who reaches the address may call."""
        self._rollout = rollout
        self._metrics = metrics
        self._gate = gate

    async def ListVersions(self, request: pb.ListVersionsRequest, context: Context) -> pb.ModelVersions:  # noqa: N802
        return await self._answer("ListVersions", context, lambda rollout: _no_change())

    async def Refresh(self, request: pb.RefreshRequest, context: Context) -> pb.ModelVersions:  # noqa: N802
        return await self._answer("Refresh", context, lambda rollout: rollout.refresh())

    async def LoadModel(self, request: pb.LoadModelRequest, context: Context) -> pb.ModelVersions:  # noqa: N802
        return await self._answer(
            "LoadModel", context, lambda rollout: rollout.load(_required("model", request.model), request.version)
        )

    async def UnloadModel(self, request: pb.UnloadModelRequest, context: Context) -> pb.ModelVersions:  # noqa: N802
        return await self._answer(
            "UnloadModel", context, lambda rollout: rollout.unload(_required("model", request.model), request.version)
        )

    async def SetAlias(self, request: pb.SetAliasRequest, context: Context) -> pb.ModelVersions:  # noqa: N802
        return await self._answer(
            "SetAlias",
            context,
            lambda rollout: rollout.set_alias(
                _required("model", request.model),
                _required("alias", request.alias),
                _required("version", request.version),
                request.share,
            ),
        )

    async def DeleteAlias(self, request: pb.DeleteAliasRequest, context: Context) -> pb.ModelVersions:  # noqa: N802
        return await self._answer(
            "DeleteAlias",
            context,
            lambda rollout: rollout.delete_alias(_required("model", request.model), _required("alias", request.alias)),
        )

    async def _answer(
        self, method: str, context: Context, change: Callable[[Rollout], Coroutine[None, None, None]]
    ) -> pb.ModelVersions:
        """Make a change. Returns the versions after it. A cancelled call does not interrupt the change."""
        async with Answering(self._metrics, method, context) as answering:
            if self._gate is not None:
                caller = self._gate.caller(context)
                answering.caller = caller.name
                caller.check_scope(ADMIN)
            if self._rollout is None:
                raise Conflict("this server has no repository: start it with --repository")
            await asyncio.shield(asyncio.create_task(change(self._rollout)))
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

"""Check a server with the standard gRPC health service. Argument: HOST:PORT. Exit status 0 if it serves, else 1."""

from __future__ import annotations

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_TIMEOUT = 4.0
"""Seconds until the check fails."""


def main(server: str) -> int:
    """Check the server. Returns the exit status."""
    with grpc.insecure_channel(server) as channel:
        try:
            reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT)
        except grpc.RpcError as error:
            print(f"{server}: {error.code().name}: {error.details()}")
            return 1
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
    print(f"{server}: {status}")
    return 0 if reply.status == health_pb2.HealthCheckResponse.SERVING else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

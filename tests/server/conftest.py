from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from support.server_thread import ServerThread


@pytest.fixture
def channel(server: ServerThread) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as channel:
        yield channel

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.longrunning import operations_proto_pb2

from dragoman_protos.v1 import translation_pb2 as pb

PROTOS = Path(__file__).parents[2] / "protos"
NAMES = [path.relative_to(PROTOS).with_suffix("").as_posix() for path in sorted(PROTOS.rglob("*.proto"))]
SITE = Path(operations_proto_pb2.__file__).parents[2]
OPERATIONS = f"google/longrunning/operations.proto={SITE}/google/longrunning/operations_proto.proto"


@pytest.mark.parametrize("name", NAMES)
def test_committed_code_is_what_the_proto_gives(tmp_path: Path, name: str) -> None:
    pytest.importorskip("grpc_tools")
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{PROTOS}",
        f"-I{OPERATIONS}",
        f"-I{SITE}",
        *outputs,
        f"{name}.proto",
    ]
    subprocess.run(command, check=True)
    for suffix in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py"):
        assert (tmp_path / f"{name}{suffix}").read_text() == (PROTOS / f"{name}{suffix}").read_text()


def test_zero_is_seen() -> None:
    assert pb.DecodingOptions(beam_size=0).HasField("beam_size")
    assert not pb.DecodingOptions().HasField("beam_size")
    assert pb.Sampling(seed=0).HasField("seed")

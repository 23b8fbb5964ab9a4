"""A server sends nothing to anybody, and writes nothing into the home of its user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dragoman_service.bundle.bundle import Bundle
from support.server_process import START_SECONDS

# A network with nothing but its loopback, whose name server notes what it is asked.
IN_A_NETWORK_OF_ITS_OWN = """
import fcntl, pathlib, signal, socket, struct, subprocess, sys, threading, time

asked, home, *command = sys.argv[1:]
loopback = struct.pack("16sh", b"lo", 0x1 | 0x40)  # up and running
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8914, loopback)
names = pathlib.Path(asked).with_name("resolv.conf")
names.write_text("nameserver 127.0.0.1\\noptions timeout:1 attempts:1\\n")
subprocess.run(["mount", "--bind", names, "/etc/resolv.conf"], check=True)
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))

def note() -> None:
    with open(asked, "ab", buffering=0) as file:
        while True:
            file.write(server.recv(512) + b"\\n")

threading.Thread(target=note, daemon=True).start()
if not command:
    subprocess.run(["getent", "hosts", "example.com"])
    sys.exit()
serving = subprocess.Popen(command, env={"PATH": "/usr/bin:/bin", "HOME": home}, stdout=subprocess.PIPE, text=True)
while "ready" not in serving.stdout.readline():
    assert serving.poll() is None
time.sleep(3)
serving.send_signal(signal.SIGTERM)
sys.exit(serving.wait(60))
"""


def run(asked: Path, home: Path, *command: str | Path) -> bytes:
    """Run a command in a network of its own; what name servers were asked."""
    asked.touch()
    script = [sys.executable, "-c", IN_A_NETWORK_OF_ITS_OWN, asked, home, *command]
    subprocess.run(["unshare", "--mount", "--net", *script], check=True, timeout=START_SECONDS)
    return asked.read_bytes()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="namespaces need root and unshare")
def test_a_server_asks_no_name_server_and_leaves_its_home_empty(tiny_bundle: Bundle, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    try:
        heard = run(tmp_path / "probe", home)
    except subprocess.CalledProcessError:
        pytest.skip("no namespaces here")
    assert b"example" in heard, "the name server of this test works"
    serve = (
        sys.executable,
        "-m",
        "dragoman_service.cli",
        "serve",
        tiny_bundle.path,
        "--port",
        "0",
        "--metrics-port",
        "0",
    )
    assert run(tmp_path / "asked", home, *serve) == b""
    assert list(home.iterdir()) == []

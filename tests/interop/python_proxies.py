"""Real proxies in front of frameloop, configured as in docs/operations.md."""

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from python_channels import FRAMELOOP, free_port, process
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

DOCUMENT = Path(__file__).parents[2] / "docs/operations.md"

pytestmark = pytest.mark.skipif(not FRAMELOOP, reason="FRAMELOOP_BIN is not set: the test starts its own server")


def block(title):
    """The first block of this section of the document that is not a command."""
    section = DOCUMENT.read_text().split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    return re.search(r"```(?:nginx|haproxy|yaml)\n(.*?)```", section, re.DOTALL)[1]


def program(name):
    # The Python packages put theirs beside the interpreter.
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    return found or pytest.skip(f"{name} is missing")


def nginx(folder, port, server):
    text = block("nginx").replace("listen 80;", f"listen 127.0.0.1:{port};")
    text = text.replace("unix:/run/frameloop/frameloop.sock", server)
    temporaries = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off; {temporaries}\n{text}\n}}\n"
    )
    return [program("nginx"), "-c", str(folder / "nginx.conf")]


def haproxy(folder, port, server):
    text = block("HAProxy").replace("bind :80", f"bind 127.0.0.1:{port}").replace("127.0.0.1:8000", server)
    (folder / "haproxy.cfg").write_text(text)
    return [program("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]


def traefik(folder, port, server):
    text = block("Traefik").replace("10.0.0.7:8000", server).replace("example.com", "127.0.0.1")
    (folder / "frameloop.yaml").write_text(text)
    return [
        program("traefik"),
        f"--entryPoints.web.address=127.0.0.1:{port}",
        f"--providers.file.filename={folder}/frameloop.yaml",
    ]


def envoy(folder, port, server):
    address, server_port = server.split(":")
    text = block("Envoy").replace("0.0.0.0, port_value: 80 ", f"127.0.0.1, port_value: {port} ")
    text = text.replace("10.0.0.7, port_value: 8000", f"{address}, port_value: {server_port}")
    (folder / "envoy.yaml").write_text(text)
    # Two Envoys on one machine would share a base id.
    return [program("envoy"), "-c", str(folder / "envoy.yaml"), "--use-dynamic-base-id", "--concurrency", "1"]


CONFIGURED = {"nginx": nginx, "haproxy": haproxy, "traefik": traefik, "envoy": envoy}


@pytest.fixture(scope="module", params=CONFIGURED)
def proxy(request, tmp_path_factory):
    """The address of a proxy. Its frameloop allows each client address two connections at a time."""
    name, folder, port = request.param, tmp_path_factory.mktemp(request.param), free_port()
    source = "--proxy-protocol-from" if name == "haproxy" else "--trust-forwarded-from"
    command = [FRAMELOOP, "--listen", "127.0.0.1:0", source, "127.0.0.1", "--max-connections-per-address", "2"]
    with process(command) as server:
        address = re.search(r"http://([0-9.]+:[0-9]+)", server.stdout.readline())[1]
        arguments = CONFIGURED[name](folder, port, address)
        log = (folder / "log").open("w")
        running = subprocess.Popen(arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            until_ready(running, port, folder)
            yield f"127.0.0.1:{port}"
        finally:
            running.terminate()
            running.wait(10)


def until_ready(running, port, folder):
    began = time.monotonic()
    while True:
        with contextlib.suppress(OSError):
            if urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).read().strip() == b"ok":
                return
        if running.poll() is not None or time.monotonic() - began > 20:
            raise AssertionError(f"the proxy does not forward: {(folder / 'log').read_text()[-2000:]}")
        time.sleep(0.05)


async def test_messages_of_all_kinds_come_back(proxy):
    async with connect(f"ws://{proxy}/echo", max_size=None) as socket:
        for message in ["", "text \u4e2d\u6587", b"", bytes(range(256)) * 8192]:
            await socket.send(message)
            assert await socket.recv() == message
        assert await (await socket.ping(b"beat")) >= 0


@pytest.mark.parametrize("code", [1000, 3001, 4999])
async def test_the_close_code_of_the_client_comes_back(proxy, code):
    async with connect(f"ws://{proxy}/echo") as socket:
        await socket.close(code, "bye")
        assert (socket.close_code, socket.close_reason) == (code, "bye")


async def test_the_close_code_of_the_server_arrives(proxy):
    async with connect(f"ws://{proxy}/echo?close_after=1&close=4001") as socket:
        await socket.send("x")
        with pytest.raises(ConnectionClosed):
            while True:
                await socket.recv()
        assert socket.close_code == 4001


async def test_messages_sent_with_the_handshake_arrive(proxy):
    """The client sends before the answer has come: no byte after the request is lost."""
    reader, writer = await asyncio.open_connection(*proxy.split(":"))
    request = (
        f"GET /echo HTTP/1.1\r\nHost: {proxy}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    writer.write(request.encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 101 ") and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    writer.write(b"\x82\x85\0\0\0\0first\x82\x86\0\0\0\0second")
    assert await asyncio.wait_for(reader.readexactly(15), 10) == b"\x82\x05first\x82\x06second"
    writer.close()


async def test_limits_count_the_address_of_the_client(proxy):
    """All connections come from the proxy's address; the limit counts those of the clients."""
    async with (
        connect(f"ws://{proxy}/echo", local_addr=("127.0.0.3", 0)),
        connect(f"ws://{proxy}/echo", local_addr=("127.0.0.3", 0)),
    ):
        with pytest.raises((InvalidStatus, ConnectionError)) as refused:
            await connect(f"ws://{proxy}/echo", local_addr=("127.0.0.3", 0))
        if isinstance(refused.value, InvalidStatus):
            assert refused.value.response.status_code in (429, 502, 503)
        async with connect(f"ws://{proxy}/echo", local_addr=("127.0.0.4", 0)) as other:
            await other.send("x")
            assert await other.recv() == "x"


async def test_many_requests_on_kept_connections_are_answered(proxy):
    def requests():
        for _ in range(200):
            assert urllib.request.urlopen(f"http://{proxy}/healthz", timeout=10).status == 200

    await asyncio.to_thread(requests)

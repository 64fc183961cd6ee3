"""Two frameloop servers and a Django on one Redis: the same rooms on every server."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import websockets
from python_channels import FRAMELOOP, Redis, comes_through, free_port, process

HERE = Path(__file__).parent
ROOMS = int(os.environ.get("CLUSTER_ROOMS", "100"))
MESSAGES = int(os.environ.get("CLUSTER_MESSAGES", "10"))

pytestmark = [
    pytest.mark.skipif(not FRAMELOOP, reason="FRAMELOOP_BIN is not set: the test starts its own server"),
    pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is missing"),
]


class Link:
    """A forwarder from a node to Redis. When it is cut, data stops without an error."""

    def __init__(self, port):
        self.port, self.whole = port, asyncio.Event()
        self.whole.set()

    async def start(self):
        self.server = await asyncio.start_server(self.carry, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    async def carry(self, reader, writer):
        await self.whole.wait()
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        await asyncio.gather(self.pump(reader, far_writer), self.pump(far_reader, writer))

    async def pump(self, reader, writer):
        with contextlib.suppress(OSError):
            while bytes := await reader.read(1 << 16):
                await self.whole.wait()
                writer.write(bytes)
                await writer.drain()
        writer.close()


@contextlib.contextmanager
def cluster(redis, layer, second_port):
    """The addresses of the three servers. The second one reaches Redis on `second_port`."""

    def frameloop(port):
        return process([FRAMELOOP, "--listen", "127.0.0.1:0", "--channel-layer", layer, "--redis-url",
                        f"redis://127.0.0.1:{port}/0"])

    port = free_port()
    daphne = [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(port), "channels_app:application"]
    settings = {"REDIS": f"127.0.0.1:{redis.port}", "LAYER": layer.removeprefix("redis-"), "PYTHONPATH": str(HERE)}
    with frameloop(redis.port) as one, frameloop(second_port) as two, process(daphne, **settings):
        nodes = [re.search(r"http://([0-9.:]+)", node.stdout.readline())[1] for node in (one, two)]
        yield [*nodes, f"127.0.0.1:{port}"]


def open_room(address, room):
    return websockets.connect(f"ws://{address}/ws/chat/{room}/", compression=None)


async def is_up(address):
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(OSError):
                async with open_room(address, "up"):
                    return
            await asyncio.sleep(0.1)


def batches(rooms):
    """Small batches, so that no queue of RedisChannelLayer (100 messages per process) is ever full."""
    return [rooms[start:start + 10] for start in range(0, len(rooms), 10)]


async def joined(members):
    """Waits until every member receives every other member's messages, and reads them all."""
    for name, sender in enumerate(members):
        for receiver in members:
            await comes_through(sender, receiver, f"join {name}")
    end = json.dumps({"message": "ready"})
    for sender in members:
        await sender.send(end)
    for member in members:
        for _ in members:
            while await asyncio.wait_for(member.recv(), 30) != end:
                pass


async def gauge(address, name):
    reader, writer = await asyncio.open_connection(*address.split(":"))
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    return int(re.search(rf"^{name} (\d+)", text, re.MULTILINE)[1])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("layer", ["redis-pubsub", "redis-core"])
async def test_rooms_on_three_servers_neither_lose_nor_repeat_nor_reorder_messages(layer, tmp_path):
    redis = Redis(str(tmp_path))
    sent = received = 0
    with cluster(redis, layer, redis.port) as addresses:
        await is_up(addresses[2])
        async with contextlib.AsyncExitStack() as stack:
            rooms = []
            for number in range(ROOMS):
                members = [open_room(address, f"room{number}") for address in addresses]
                rooms.append([await stack.enter_async_context(member) for member in members])
            for some in batches(rooms):
                await asyncio.gather(*(joined(members) for members in some))
            began = time.monotonic()
            for number in range(MESSAGES):
                for some in batches(rooms):
                    for members in some:
                        for name, sender in enumerate(members):
                            await sender.send(json.dumps({"message": [name, number]}))
                            sent += 1
                    for member in [member for members in some for member in members]:
                        got = [json.loads(await asyncio.wait_for(member.recv(), 30))["message"] for _ in addresses]
                        assert sorted(got) == [[name, number] for name in range(len(addresses))]
                        received += len(got)
            took = time.monotonic() - began
            for members in rooms[:3]:
                for member in members:
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(member.recv(), 0.2)
        for address in addresses[:2]:
            assert await gauge(address, "frameloop_gap_events_total") == 0
    redis.stop()
    print(f"{layer}: {ROOMS} rooms on 3 servers: sent {sent}, received {received}, "
          f"lost 0, duplicated 0, reordered 0, in {took:.1f} s")


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True).returncode == 0


@contextlib.contextmanager
def namespace():
    """A network namespace with two links to this one: its name, and this end of each link."""
    name = f"frameloop{os.getpid()}"
    if not (shutil.which("ip") and ip("netns", "add", name)):
        pytest.skip("needs ip and the right to create network namespaces")
    try:
        links = [f"fl{os.getpid()}a", f"fl{os.getpid()}b"]
        for number, link in enumerate(links):
            made = [
                ip("link", "add", link, "type", "veth", "peer", "name", f"far{number}", "netns", name),
                ip("addr", "add", f"10.213.{number}.1/30", "dev", link),
                ip("link", "set", link, "up"),
                ip("-n", name, "addr", "add", f"10.213.{number}.2/30", "dev", f"far{number}"),
                ip("-n", name, "link", "set", f"far{number}", "up"),
            ]
            if not all(made):
                pytest.skip("veth links are not available")
        yield name, links
    finally:
        ip("netns", "del", name)


@pytest.mark.timeout(120)
async def test_a_cut_link_between_network_namespaces_heals():
    with namespace() as (name, links):
        server = ["ip", "netns", "exec", name, "redis-server", "--port", "6379", "--save", "", "--protected-mode", "no"]
        redis = subprocess.Popen(server, stdout=subprocess.DEVNULL)
        nodes = [process([FRAMELOOP, "--listen", "127.0.0.1:0", "--channel-layer", "redis-pubsub", "--redis-url",
                          f"redis://10.213.{number}.2:6379/0"]) for number in range(2)]
        try:
            with nodes[0] as first, nodes[1] as second:
                one, two = (re.search(r"http://([0-9.:]+)", node.stdout.readline())[1] for node in (first, second))
                async with open_room(one, "cut") as near, open_room(two, "cut") as far:
                    await comes_through(near, far, "there")
                    await comes_through(far, near, "and back")
                    assert ip("link", "set", links[1], "down")
                    for number in range(25):
                        message = json.dumps({"message": number})
                        await far.send(message)
                        while await asyncio.wait_for(far.recv(), 5) != message:
                            pass
                        await asyncio.sleep(0.2)
                    assert ip("link", "set", links[1], "up")
                    await comes_through(near, far, "again there")
                    await comes_through(far, near, "and back again")
                assert await gauge(two, "frameloop_gap_events_total") >= 1
        finally:
            redis.kill()
            redis.wait()


@pytest.mark.timeout(120)
async def test_a_cut_between_a_node_and_redis_heals(tmp_path):
    redis = Redis(str(tmp_path))
    link = Link(redis.port)
    with cluster(redis, "redis-pubsub", await link.start()) as [one, two, _]:
        async with open_room(one, "cut") as near, open_room(two, "cut") as far, open_room(two, "cut") as beside:
            await comes_through(near, far, "there")
            await comes_through(far, near, "and back")
            link.whole.clear()
            # Longer than a node's Redis timeout.
            for number in range(40):
                message = json.dumps({"message": number})
                await far.send(message)
                for member in (far, beside):
                    while await asyncio.wait_for(member.recv(), 5) != message:
                        pass
                await asyncio.sleep(0.2)
            link.whole.set()
            began = time.monotonic()
            await comes_through(near, far, "again there")
            await comes_through(far, near, "and back again")
            back = time.monotonic() - began
        assert await gauge(two, "frameloop_gap_events_total") >= 1
    redis.stop()
    print(f"a cut of 8 s between a node and Redis: back in {back:.1f} s")

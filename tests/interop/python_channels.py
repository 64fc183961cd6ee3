"""D1-D14: frameloop and Django Channels in the same rooms, over both layers of channels_redis."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import redis as redis_client
import websockets

FRAMELOOP = os.environ.get("FRAMELOOP_BIN")
DJANGO = Path(__file__).with_name("channels_app.py")
HI = '{"message": "hi"}'

pytestmark = [
    pytest.mark.skipif(not FRAMELOOP, reason="FRAMELOOP_BIN is not set: the test starts its own server"),
    pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is missing"),
]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Redis:
    """A Redis server that can be stopped and started again."""

    def __init__(self, folder):
        self.port, self.folder = free_port(), folder
        self.start()

    def start(self):
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.folder]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def stop(self):
        self.process.kill()
        self.process.wait()

    def client(self):
        return redis_client.Redis(port=self.port)


@contextlib.contextmanager
def process(command, **environment):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


class Cluster:
    """A frameloop and a daphne server on one Redis."""

    def __init__(self, redis, layer, frameloop, django):
        self.redis, self.layer = redis, layer
        self.urls = {"frameloop": frameloop, "django": django}

    def open(self, server, room="lobby"):
        return websockets.connect(f"{self.urls[server]}/ws/chat/{room}/", compression=None)

    async def is_joined(self, *members):
        """Waits until every member receives every other member's messages."""
        for number, sender in enumerate(members):
            for receiver in members:
                await comes_through(sender, receiver, f"join {number}")
        for member in members:
            await drained(member)


async def comes_through(sender, receiver, text):
    """Sends until the message arrives, because it is lost until the receiver's process has joined the group."""
    async with asyncio.timeout(30):
        while True:
            await sender.send(json.dumps({"message": text}))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    while json.loads(await receiver.recv())["message"] != text:
                        pass
                    return


async def drained(member):
    with contextlib.suppress(TimeoutError):
        while True:
            await asyncio.wait_for(member.recv(), 0.5)


@pytest.fixture(scope="module", params=["redis-pubsub", "redis-core"])
def cluster(request, tmp_path_factory):
    redis = Redis(str(tmp_path_factory.mktemp("redis")))
    address = f"127.0.0.1:{redis.port}"
    layer = {"REDIS": address, "LAYER": request.param.removeprefix("redis-")}
    frameloop = [FRAMELOOP, "--listen", "127.0.0.1:0", "--channel-layer", request.param,
                 "--redis-url", f"redis://{address}/0"]
    port = free_port()
    daphne = [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(port), "channels_app:application"]
    with process(frameloop) as ours, process(daphne, PYTHONPATH=str(DJANGO.parent), **layer):
        url = re.search(r"http://([0-9.:]+)", ours.stdout.readline())[1]
        yield Cluster(redis, request.param, f"ws://{url}", f"ws://127.0.0.1:{port}")
    redis.stop()


async def is_up(cluster):
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(OSError):
                async with cluster.open("django"):
                    return
            await asyncio.sleep(0.1)


MESSAGES = [
    ('{"message": "hi"}', HI),
    ('{"message": "你好 😀", "user": "u"}', r'{"message": "\u4f60\u597d \ud83d\ude00"}'),
    ('{"message": {"b":1,"a":[true,"é"]}}', r'{"message": {"b": 1, "a": [true, "\u00e9"]}}'),
    ('{"message": null}', '{"message": null}'),
    ('{"message": [1.50, 1e16, 1e-5, -0, NaN, -Infinity]}', '{"message": [1.5, 1e+16, 1e-05, 0, NaN, -Infinity]}'),
    ('{"message": 18446744073709551615}', '{"message": 18446744073709551615}'),
    ('{"message": 1, "message": {"x": 1, "y": 2, "x": 3}}', '{"message": {"x": 3, "y": 2}}'),
    (r'{"message": "\u0000\u007f\/\\\""}', r'{"message": "\u0000\u007f/\\\""}'),
]


async def test_d1_d2_d3_d7_all_members_get_the_same_bytes_from_any_sender(cluster):
    await is_up(cluster)
    async with cluster.open("frameloop") as ours, cluster.open("django") as theirs:
        await cluster.is_joined(ours, theirs)
        for sender in (ours, theirs):
            for sent, expected in MESSAGES:
                await sender.send(sent)
                for receiver in (ours, theirs):
                    assert await asyncio.wait_for(receiver.recv(), 10) == expected, sent


@pytest.mark.parametrize("server", ["frameloop", "django"])
@pytest.mark.parametrize("sent", ["hello", "[1]", '{"msg":1}', "", b"\0", '{"message": 18446744073709551616}',
                                  r'{"message": "\ud800"}'])
async def test_d4_an_invalid_message_closes_its_sender(cluster, server, sent):
    await is_up(cluster)
    async with cluster.open(server) as sender, cluster.open("frameloop") as other:
        await cluster.is_joined(sender, other)
        await sender.send(sent)
        with pytest.raises(websockets.ConnectionClosed):
            await asyncio.wait_for(sender.recv(), 10)
        assert sender.close_code == 1011
        await other.send(HI)
        assert await other.recv() == HI


@pytest.mark.parametrize("server", ["frameloop", "django"])
@pytest.mark.parametrize("room, is_one", [("a" * 94, True), ("a" * 95, False), ("a%20b", False)])
async def test_d5_room_names(cluster, server, room, is_one):
    await is_up(cluster)
    if cluster.layer == "redis-pubsub" and server == "django" and len(room) == 95:
        pytest.skip("the pub/sub layer of Channels checks no names")
    try:
        async with cluster.open(server, room):
            assert is_one
    except websockets.InvalidStatus:
        assert not is_one


async def test_d6_rooms_do_not_mix(cluster):
    await is_up(cluster)
    async with cluster.open("frameloop", "x") as x, cluster.open("django", "x") as far_x, \
            cluster.open("frameloop", "y") as y, cluster.open("django", "y") as far_y:
        await cluster.is_joined(x, far_x)
        await cluster.is_joined(y, far_y)
        await x.send('{"message": "x"}')
        await far_y.send('{"message": "y"}')
        for members, expected in [((x, far_x), "x"), ((y, far_y), "y")]:
            for member in members:
                assert json.loads(await asyncio.wait_for(member.recv(), 10)) == {"message": expected}


async def test_bursts_arrive_whole_and_in_order(cluster):
    """As many messages as fit into the queues of Channels."""
    await is_up(cluster)
    async with cluster.open("frameloop") as ours, cluster.open("django") as theirs:
        await cluster.is_joined(ours, theirs)
        for sender, receiver in [(ours, theirs), (theirs, ours)]:
            for number in range(80):
                await sender.send(json.dumps({"message": number}))
            for member in (receiver, sender):
                got = [json.loads(await asyncio.wait_for(member.recv(), 10))["message"] for _ in range(80)]
                assert got == list(range(80))
        for member in (ours, theirs):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(member.recv(), 0.3)


async def test_d13_garbage_closes_no_client_of_frameloop(cluster):
    await is_up(cluster)
    client = cluster.redis.client()
    async with cluster.open("frameloop", "garbage") as one, cluster.open("frameloop", "garbage") as other:
        await cluster.is_joined(one, other)
        bodies = [b"short", b"\xc1" * 40, b"\x80", b"\0" * 12 + b"\x81\xa7message\xa2hi"]
        if cluster.layer == "redis-pubsub":
            for body in bodies:
                assert client.publish("asgi__group__chat_garbage", body) == 1
        else:
            async with asyncio.timeout(10):
                while not (members := client.zrange("asgi:group:chat_garbage", 0, -1)):
                    await asyncio.sleep(0.05)
            key = "asgi" + members[0].decode().partition("!")[0] + "!"
            for number, body in enumerate(bodies):
                client.zadd(key, {body: number + 1})
        await one.send(HI)
        for member in (one, other):
            assert await asyncio.wait_for(member.recv(), 10) == HI


async def test_d14_redis_stops_and_comes_back(cluster):
    await is_up(cluster)
    async with cluster.open("frameloop", "d14") as one, cluster.open("frameloop", "d14") as other:
        await cluster.is_joined(one, other)
        cluster.redis.stop()
        for number in range(20):
            message = f'{{"message": {number}}}'
            await one.send(message)
            for member in (one, other):
                assert await asyncio.wait_for(member.recv(), 5) == message
        cluster.redis.start()
        # A consumer of Channels ends with its Redis connection, so this one is new.
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(Exception):
                    async with cluster.open("django", "d14") as theirs:
                        await comes_through(one, theirs, "there")
                        await comes_through(theirs, one, "and back")
                        break
        await drained(one)
        await drained(other)
        await one.send(HI)
        for member in (one, other):
            assert await asyncio.wait_for(member.recv(), 5) == HI

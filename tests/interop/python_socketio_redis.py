"""S14: frameloop and Flask-SocketIO on one bus, with `python-socketio`'s external emitter."""

import asyncio
import base64
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import redis as redis_client
import socketio

CHANNEL = "flask-socketio"
FRAMELOOP = os.environ.get("FRAMELOOP_BIN")
REFERENCE = Path(__file__).with_name("flask_socketio_app.py")

pytestmark = [
    pytest.mark.skipif(not FRAMELOOP, reason="FRAMELOOP_BIN is not set: the test starts its own server"),
    pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is missing"),
]


class Redis:
    """A Redis server that can be stopped and started again."""

    def __init__(self, folder):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self.folder = folder
        self.start()

    def start(self):
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.folder]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def stop(self):
        self.process.kill()
        self.process.wait()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self):
        return redis_client.Redis(port=self.port)

    async def has_subscribers(self, count):
        """Waits until this many processes subscribe to the bus."""
        while True:
            with contextlib.suppress(redis_client.ConnectionError):
                if self.client().pubsub_numsub(CHANNEL)[0][1] >= count:
                    return
            await asyncio.sleep(0.02)

    def publish(self, **message):
        self.client().publish(CHANNEL, json.dumps(message))


@contextlib.contextmanager
def serving(command, **environment):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    try:
        yield re.search(r"http://[0-9.:]+", process.stdout.readline())[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@pytest.fixture(scope="module")
def bus(request, tmp_path_factory):
    """The Redis server, and the addresses of frameloop and Flask-SocketIO on it."""
    server = Redis(tmp_path_factory.mktemp("redis"))
    request.addfinalizer(lambda: server.stop())
    frameloop = [FRAMELOOP, "--listen", "127.0.0.1:0", "--socketio-redis", server.url]
    flask = [sys.executable, str(REFERENCE)]
    with serving(frameloop) as ours, serving(flask, REDIS_QUEUE=server.url) as theirs:
        with socketio.SimpleClient() as first:
            first.connect(theirs)  # subscribes the server to the bus
        asyncio.run(asyncio.wait_for(server.has_subscribers(2), 20))
        yield server, ours, theirs


@pytest.fixture
async def clients(bus):
    """A client of frameloop, and one of Flask-SocketIO."""
    both = [socketio.AsyncSimpleClient() for _ in "ab"]
    for client, url in zip(both, bus[1:]):
        await client.connect(url)
        assert await client.receive(10) == ["response", {"data": "连接成功"}]
    yield both
    for client in both:
        await client.disconnect()


async def nothing_more(*clients):
    """Checks that no further event arrives."""
    for client in clients:
        with pytest.raises(socketio.exceptions.TimeoutError):
            await client.receive(0.3)


async def test_clients_of_both_receive_messages_of_either(clients):
    for sender in clients:
        for message in ["你好 😀", {"x": [1, 2.5, None]}]:
            await sender.emit("message", message)
            expected = ["response", {"data": f"收到: {message}"}]
            assert [await client.receive(10) for client in clients] == [expected] * 2
    await nothing_more(*clients)


async def test_rooms_are_shared(clients):
    for member, other in [clients, clients[::-1]]:
        await member.call("join", {"room": "r"})
        assert await member.receive(10) == ["response", {"data": "joined r"}]
        await other.emit("room", {"room": "r", "data": "to r"})
        assert await member.receive(10) == ["response", {"data": "to r"}]
        await nothing_more(other)
        await member.call("leave", {"room": "r"})
        await other.emit("room", {"room": "r", "data": "to nobody"})
    await nothing_more(*clients)


async def test_the_external_emitter_reaches_clients_of_both(bus, clients):
    emitter = socketio.RedisManager(bus[0].url, channel=CHANNEL, write_only=True)
    emitter.emit("news", {"n": 1})
    assert [await client.receive(10) for client in clients] == [["news", {"n": 1}]] * 2
    emitter.emit("two", (1, "b"))
    assert [await client.receive(10) for client in clients] == [["two", 1, "b"]] * 2
    emitter.emit("binary", {"deep": b"\1\2"})
    assert [await client.receive(10) for client in clients] == [["binary", {"deep": b"\1\2"}]] * 2
    for client in clients:
        emitter.emit("one", 1, to=client.sid)
        assert await client.receive(10) == ["one", 1]
    emitter.emit("others", 1, skip_sid=clients[0].sid)
    assert await clients[1].receive(10) == ["others", 1]
    await nothing_more(*clients)


async def test_every_action_on_the_bus_works(bus, clients):
    redis, ours = bus[0], clients[0]
    sid = ours.sid
    emit = {"method": "emit", "namespace": "/", "event": "e"}
    redis.publish(**emit, data=[{"data": "x"}], room=None)
    assert await ours.receive(10) == ["e", {"data": "x"}]
    redis.publish(method="enter_room", sid=sid, namespace="/", room="entered")
    redis.publish(**emit, data=[1, 2], room="entered")
    assert await ours.receive(10) == ["e", 1, 2]
    bytes = base64.b64encode(b"\xff\0").decode()
    redis.publish(**emit, data=[[{"_placeholder": True, "num": 0}], bytes], binary=True, room=["entered", sid])
    assert await ours.receive(10) == ["e", b"\xff\0"]
    redis.publish(method="leave_room", sid=sid, namespace="/", room="entered")
    redis.publish(**emit, data=[3], room="entered")
    redis.publish(method="enter_room", sid=sid, namespace="/", room="closed")
    redis.publish(method="close_room", namespace="/", room="closed")
    redis.publish(**emit, data=[4], room="closed")
    redis.publish(**emit, data=[5], room=None, skip_sid=[sid, clients[1].sid])
    redis.publish(**emit, data=[6], room=sid, skip_sid=sid)
    await nothing_more(ours)
    redis.publish(method="disconnect", sid=sid, namespace="/")
    while ours.connected:
        await asyncio.sleep(0.02)


async def test_an_acknowledgement_returns_to_the_asking_process(bus):
    client = socketio.AsyncClient()

    @client.on("question")
    async def question(data):
        return "yes", data

    await client.connect(bus[1])
    answers = bus[0].client().pubsub()
    answers.subscribe(CHANNEL)
    emit = {"method": "emit", "namespace": "/", "event": "question", "data": [1], "room": client.get_sid()}
    bus[0].publish(**emit, callback=["asker", "/", 7], host_id="somebody")
    answer = None
    while answer is None or answer["method"] != "callback":
        message = await asyncio.to_thread(answers.get_message, True, 10)
        answer = message and json.loads(message["data"])
    assert answer == {
        "method": "callback", "host_id": "somebody", "sid": "asker", "namespace": "/", "id": 7, "args": ["yes", 1],
    }
    await client.disconnect()


async def test_garbage_on_the_bus_disturbs_no_client(bus, clients):
    ours = clients[0]
    for garbage in [
        b"", b"garbage", b"\x80\x04]\x94.", b"[]", b"7", b"{}", b"null", b'"x"', b"[" * 100_000,
        b'{"method": "emit"}', b'{"method": "emit", "namespace": "/"}',
        b'{"method": "emit", "namespace": "/", "event": "e"}',
        b'{"method": "emit", "namespace": "/", "event": 7, "data": []}',
        b'{"method": "emit", "namespace": "/", "event": "e", "data": [], "binary": true}',
        b'{"method": "emit", "namespace": "/", "event": "e", "data": [[], "!"], "binary": true}',
        b'{"method": "emit", "namespace": "/", "event": "e", "data": [], "room": 7}',
        b'{"method": "emit", "namespace": "/none", "event": "e", "data": []}',
        b'{"method": "emit", "event": "e", "data": []}',
        b'{"method": "disconnect", "namespace": "/", "sid": "nobody"}',
        b'{"method": "enter_room", "namespace": "/", "sid": "AAAAAAAAAAAAAAAA", "room": "r"}',
        b'{"method": "callback", "namespace": "/", "sid": "x", "id": 1, "args": []}',
        b'{"method": "unknown", "namespace": "/"}',
    ]:  # fmt: skip
        bus[0].client().publish(CHANNEL, garbage)
    bus[0].publish(method="emit", namespace="/", event="after", data=[])
    assert await ours.receive(10) == ["after"]


async def test_local_clients_work_without_redis_and_rejoin_when_it_returns(bus):
    server, url, _ = bus
    clients = [socketio.AsyncSimpleClient() for _ in "ab"]
    for client in clients:
        await client.connect(url)
        assert await client.receive(10) == ["response", {"data": "连接成功"}]
    server.stop()
    for number in range(3):
        await clients[0].emit("message", number)
        for client in clients:
            assert await client.receive(10) == ["response", {"data": f"收到: {number}"}]
    server.start()
    await asyncio.wait_for(server.has_subscribers(1), 20)
    server.publish(method="emit", namespace="/", event="back", data=[])
    for client in clients:
        assert await client.receive(10) == ["back"]
        await client.disconnect()

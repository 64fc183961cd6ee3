"""PyPI's `python-socketio` client: one script against the Flask-SocketIO tutorial and against
frameloop must see the same. S numbers the acceptance checks of that tutorial."""

import asyncio
import os

import pytest
import socketio

FRAMELOOP = os.environ["FRAMELOOP_URL"]
FLASK_SOCKETIO = os.environ["FLASK_SOCKETIO_URL"]
TRANSPORTS = [["polling", "websocket"], ["websocket"], ["polling"]]
LARGE = "x" * 900_000


class Client:
    """A client and the events that it has received, in order."""

    def __init__(self, namespace: str) -> None:
        self.client = socketio.AsyncClient(reconnection=False)
        self.events: asyncio.Queue = asyncio.Queue()
        self.client.on("*", self.event, namespace)
        self.client.on("question", self.question, namespace)
        self.client.on("disconnect", self.disconnected, namespace)

    @classmethod
    async def connect(cls, url: str, transports: list[str], namespace="/", auth=None) -> "Client":
        client = cls(namespace)
        await client.client.connect(url, auth=auth, transports=transports)
        return client

    async def event(self, name, *arguments):
        self.events.put_nowait([name, *arguments])

    async def question(self, question):
        return "yes", question

    async def disconnected(self, reason):
        self.events.put_nowait(["disconnect", reason])

    async def received(self, count: int) -> list:
        """The next events. Checks that there are no more."""
        events = [await asyncio.wait_for(self.events.get(), 10) for _ in range(count)]
        await self.client.call("ack", 0)
        while not self.events.empty():
            events.append(self.events.get_nowait())
        return events


async def transcript(url: str, transports: list[str]) -> list:
    """The events of two clients."""
    a, b = [await Client.connect(url, transports) for _ in "ab"]
    seen = [("transports", [a.client.transport(), b.client.transport()])]

    async def both(what, of_a, of_b):
        seen.append((what, [await a.received(of_a), await b.received(of_b)]))

    await both("greetings", 1, 1)
    await a.client.send("hi")
    await both("send", 1, 1)
    for message in ["你好 😀", "", {"x": 1, "y": [True, None, "é", 1.5]}, True, 7, 10**20, b"\0\1\xff"]:
        await a.client.emit("message", message)
        await both("message", 1, 1)
    await a.client.emit("message")
    await a.client.emit("message", (1, 2))
    await both("nothing to answer", 0, 0)

    for data in ["x", b"\1\2\3", (1, "two", {"three": [3]}), {"deep": b"\t"}, [1.5, 2.0]]:
        seen.append(("acknowledged", await a.client.call("echo", data)))
        await both("echo", 1, 0)
    seen.append(("acknowledged message", await a.client.call("message", "x")))
    await both("message", 1, 1)
    seen.append(("acknowledged by two", await a.client.call("ack", {"n": 1})))

    await a.client.call("join", {"room": "r"})
    await both("joined", 1, 0)
    await b.client.emit("room", {"room": "r", "data": "to r"})
    await b.client.emit("room", {"room": "none", "data": "to nobody"})
    await both("to the room", 1, 0)
    seen.append(("left", await a.client.call("leave", {"room": "r"})))
    await b.client.emit("room", {"room": "r", "data": "to r"})
    await both("to the room", 0, 0)

    await a.client.emit("ask", {"q": 1})
    await both("asked", 1, 1)

    ns = await Client.connect(url, transports, namespace="/ns")
    await ns.client.send("to the namespace", namespace="/ns")
    seen.append(("namespace", [await asyncio.wait_for(ns.events.get(), 10) for _ in range(2)]))
    await ns.client.disconnect()
    with pytest.raises(socketio.exceptions.ConnectionError) as refused:
        await Client.connect(url, transports, namespace="/ns", auth={"token": "bad"})
    seen.append(("refused", str(refused.value)))
    await both("others are undisturbed", 0, 0)

    await a.client.emit("bye")
    seen.append(("disconnected by the server", await asyncio.wait_for(a.events.get(), 10)))
    await b.client.disconnect()
    seen.append(("disconnected by the client", await asyncio.wait_for(b.events.get(), 10)))
    await a.client.shutdown()
    return seen


@pytest.mark.parametrize("transports", TRANSPORTS, ids="-".join)
async def test_the_same_as_flask_socketio(transports):
    ours = await transcript(FRAMELOOP, transports)
    assert ours == await transcript(FLASK_SOCKETIO, transports)
    # S1 and S2, in case both servers have the same error.
    assert ours[0] == ("transports", [transports[-1]] * 2)
    assert ours[1] == ("greetings", [[["response", {"data": "连接成功"}]]] * 2)
    assert ours[2] == ("send", [[["response", {"data": "收到: hi"}]]] * 2)


@pytest.mark.parametrize("transports", TRANSPORTS, ids="-".join)
async def test_s11_a_message_over_the_limit_ends_only_its_session(transports):
    client, other = [await Client.connect(FRAMELOOP, transports) for _ in "ab"]
    await asyncio.gather(client.received(1), other.received(1))
    assert await client.client.call("ack", LARGE) == ("ok", LARGE)
    await client.client.emit("ack", "x" * 1_000_001)
    name, _ = await asyncio.wait_for(client.events.get(), 10)
    assert name == "disconnect"
    assert await other.client.call("ack", 1) == ("ok", 1)
    await other.client.disconnect()

"""What every client must see, independent of its library.

A suite subclasses `Contract`; its `connect` returns a `Connection` that uses its library. `F`, `A` and
`D` are rows of tests/tables/endpoints.md: the tutorials of FastAPI, aiohttp and Django Channels.
"""

import asyncio
import itertools
import json
import os
import random
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import pytest

MESSAGE_LIMIT = 16 * 1024 * 1024
RECEIVE_TIMEOUT = 10  # seconds; shorter than the server's ping interval
SIZES = [0, 1, 125, 126, 65_535, 65_536, 1024 * 1024, MESSAGE_LIMIT]
TEXTS = {
    "two bytes per character": "é" * 100,
    "three bytes per character": "中" * 21_845,
    "emoji": "😀" * 16_384,
    "emoji up to the limit": "😀" * (MESSAGE_LIMIT // 4),
    "joined emoji, combining marks, right to left": "👩‍👩‍👧‍👦 e\u0301 שלום",
    "control characters": "\x00\t\r\n\x1b[31m\x7f",
}
SUBPROTOCOLS = {
    "none": ([], None),
    "one": (["chat"], "chat"),
    "first of two": (["superchat", "chat"], "superchat"),
    "same two in the other order": (["chat", "superchat"], "chat"),
    "registered name": (["v12.stomp", "v11.stomp"], "v12.stomp"),
    "every kind of token character": (["!#$%&'*+-.^_`|~aZ0"], "!#$%&'*+-.^_`|~aZ0"),
    "first of fifty": ([f"protocol-{number}" for number in range(50)], "protocol-0"),
}

_numbers = itertools.count(1_000_000 + random.randrange(1_000) * 1_000_000)


class Connection(ABC):
    """An open WebSocket."""

    subprotocol: str | None

    @abstractmethod
    async def send(self, message: str | bytes) -> None: ...

    @abstractmethod
    async def next_message(self) -> str | bytes: ...

    @abstractmethod
    async def ping(self, payload: bytes) -> None:
        """Sends a Ping, and waits for the Pong with the same payload."""

    @abstractmethod
    async def close(self, code: int | None, reason: str = "") -> tuple[int | None, str]:
        """Sends a Close frame. Returns the status code (None: empty) and reason of the server's."""

    @abstractmethod
    async def closed(self) -> tuple[int | None, str]:
        """Waits until the server closes. Returns the status code and reason of its Close frame."""

    @abstractmethod
    def abort(self) -> None:
        """Drops the TCP connection without a Close frame."""

    async def receive(self) -> str | bytes:
        async with asyncio.timeout(RECEIVE_TIMEOUT):
            return await self.next_message()

    async def receive_many(self, count: int) -> list[str | bytes]:
        return [await self.receive() for _ in range(count)]


class Refused(Exception):
    """The server answered the opening handshake with this HTTP status instead of 101."""

    def __init__(self, status: int):
        super().__init__(f"HTTP status {status}")
        self.status = status


class Contract(ABC):
    @abstractmethod
    def connect(self, path: str, subprotocols: Sequence[str] = ()) -> AbstractAsyncContextManager[Connection]: ...

    @asynccontextmanager
    async def connect_all(self, *paths: str) -> AsyncIterator[list[Connection]]:
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(self.connect(path)) for path in paths]

    # /echo

    @pytest.mark.parametrize("size", SIZES)
    async def test_echoes_binary(self, size: int):
        message = random.Random(size).randbytes(size)
        async with self.connect("/echo") as connection:
            await connection.send(message)
            assert await connection.receive() == message

    @pytest.mark.parametrize("size", SIZES)
    async def test_echoes_text(self, size: int):
        message = ("".join(map(chr, range(0x20, 0x7F))) * (size // 95 + 1))[:size]
        async with self.connect("/echo") as connection:
            await connection.send(message)
            assert await connection.receive() == message

    @pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
    async def test_echoes_text_beyond_ascii(self, text: str):
        async with self.connect("/echo") as connection:
            await connection.send(text)
            assert await connection.receive() == text

    async def test_echoes_on_the_root_path(self):
        async with self.connect("/") as connection:
            await connection.send("text")
            await connection.send(b"binary")
            assert await connection.receive_many(2) == ["text", b"binary"]

    @pytest.mark.parametrize("payload", [b"", b"p", bytes(range(125))], ids=["empty", "one", "longest"])
    async def test_answers_a_ping_with_its_payload(self, payload: bytes):
        async with self.connect("/echo") as connection:
            await connection.ping(payload)
            await connection.send("still open")
            assert await connection.receive() == "still open"

    @pytest.mark.parametrize("reason", ["", "bye", "再见 👋", "x" * 123], ids=["none", "ascii", "emoji", "longest"])
    @pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
    async def test_echoes_a_close(self, code: int, reason: str):
        async with self.connect("/echo") as connection:
            assert await connection.close(code, reason) == (code, reason)

    async def test_answers_an_empty_close_with_an_empty_one(self):
        async with self.connect("/echo") as connection:
            assert await connection.close(None) == (None, "")

    async def test_closes_with_1009_one_byte_over_the_limit(self):
        async with self.connect("/echo") as connection:
            await connection.send(bytes(MESSAGE_LIMIT + 1))
            assert (await connection.closed())[0] == 1009

    @pytest.mark.parametrize("offered, chosen", SUBPROTOCOLS.values(), ids=SUBPROTOCOLS.keys())
    async def test_chooses_the_first_subprotocol(self, offered: list[str], chosen: str | None):
        async with self.connect("/echo", offered) as connection:
            assert connection.subprotocol == chosen

    async def test_a_hundred_clients_get_their_hundred_messages_in_order(self):
        async def client(number: int):
            lengths = random.Random(number)
            messages = [f"{number}/{index} " + "x" * lengths.randrange(2_000) for index in range(100)]
            async with self.connect("/echo") as connection:
                received = asyncio.create_task(connection.receive_many(len(messages)))
                for message in messages:
                    await connection.send(message)
                assert await received == messages

        await asyncio.gather(*map(client, range(100)))

    async def test_an_unknown_path_is_refused_with_404(self):
        assert await self.status_of("/no/such/path") == 404

    # /ws: the tutorial's echo

    @pytest.mark.parametrize("text", ["hi", "", "😀中"], ids=["F2", "F3", "F4"])
    async def test_tutorial_echo(self, text: str):
        async with self.connect("/ws") as connection:
            await connection.send(text)
            assert await connection.receive() == f"Echo: {text}"

    async def test_tutorial_echo_ignores_binary(self):
        """A2"""
        async with self.connect("/ws") as connection:
            await connection.send(b"\x00\x01")
            await connection.send("hi")
            assert await connection.receive() == "Echo: hi"

    @pytest.mark.parametrize("code, reason", [(1000, "bye"), (None, ""), (1001, "")], ids=["F6", "F7", "A3"])
    async def test_tutorial_echo_closes(self, code: int | None, reason: str):
        async with self.connect("/ws") as connection:
            assert await connection.close(code, reason) == (code, reason)

    async def test_tutorial_echo_limit(self):
        """F14"""
        longest = "x" * MESSAGE_LIMIT
        async with self.connect("/ws") as connection:
            await connection.send(longest)
            assert await connection.receive() == "Echo: " + longest
            await connection.send(longest + "x")
            assert (await connection.closed())[0] == 1009

    # /ws/{client_id}: the ConnectionManager

    async def test_manager_answers_then_broadcasts(self):
        """F9"""
        one, two = client_ids(2)
        async with self.connect_all(f"/ws/{one}", f"/ws/{two}") as (first, second):
            await first.send("hi")
            await first.send("last")
            assert await receive_of(first, one, 4) == [
                f"Client {one}: hi",
                f"Client {one} says: hi",
                f"Client {one}: last",
                f"Client {one} says: last",
            ]
            assert await receive_of(second, one, 2) == [f"Client {one} says: hi", f"Client {one} says: last"]

    @pytest.mark.parametrize("leave", ["abort", "close"])
    async def test_manager_announces_departures(self, leave: str):
        """F10"""
        one, two = client_ids(2)
        async with self.connect_all(f"/ws/{one}", f"/ws/{two}") as (first, second):
            if leave == "abort":
                first.abort()
            else:
                await first.close(1000)
            async with asyncio.timeout(1):
                assert await receive_of(second, one, 1) == [f"Client {one} left"]

    @pytest.mark.parametrize("client_id", ["abc", "1.5", "1e3", "%E4%B8%AD"])
    async def test_manager_refuses_ids_that_are_not_numbers(self, client_id: str):
        """F11"""
        assert await self.status_of(f"/ws/{client_id}") == 403

    @pytest.mark.parametrize("client_id, printed", [("-1", "-1"), ("007", "7")])
    async def test_manager_accepts_any_integer(self, client_id: str, printed: str):
        """F11"""
        async with self.connect(f"/ws/{client_id}") as connection:
            await connection.send("z")
            assert (await receive_of(connection, printed, 1))[0] == f"Client {printed}: z"

    async def test_manager_survives_dead_clients(self):
        """F12"""
        one, two, three = client_ids(3)
        paths = [f"/ws/{one}", f"/ws/{two}", f"/ws/{three}", f"/ws/{three}"]
        async with self.connect_all(*paths) as (first, second, *dying):
            for index in range(100):
                if index in (10, 20):
                    dying.pop().abort()
                await first.send(str(index))
            personal_and_broadcast = await receive_of(first, one, 200)
            assert personal_and_broadcast[1::2] == [f"Client {one} says: {index}" for index in range(100)]
            assert await receive_of(second, one, 100) == personal_and_broadcast[1::2]

    async def test_manager_does_not_wait_for_a_client_that_never_reads(self):
        """F13"""
        one, two, three = client_ids(3)
        text = "x" * 65_536
        async with self.connect_all(f"/ws/{one}", f"/ws/{two}", f"/ws/{three}") as (first, second, third):
            for _ in range(1_000):
                async with asyncio.timeout(5):
                    await first.send(text)
                    assert await receive_of(first, one, 2) == [f"Client {one}: {text}", f"Client {one} says: {text}"]
                    assert await receive_of(second, one, 1) == [f"Client {one} says: {text}"]
            third.abort()  # a close would first read the whole queue

    # /ws/chat/{room_name}/: the chat consumer

    @pytest.mark.parametrize(
        "sent, received",
        [
            ('{"message": "hi"}', '{"message": "hi"}'),
            ('{"message": "你好 😀", "user": "u"}', r'{"message": "\u4f60\u597d \ud83d\ude00"}'),
            ('{"message": {"b":1,"a":[true,"é"]}}', r'{"message": {"b": 1, "a": [true, "\u00e9"]}}'),
        ],
        ids=["D1", "D2", "D3"],
    )
    async def test_chat_room(self, sent: str, received: str):
        async with self.connect_all(*[room_path()] * 2) as (first, second):
            await first.send(sent)
            assert await first.receive() == received
            assert await second.receive() == received

    @pytest.mark.parametrize("bad", ["hello", "[1]", '{"msg":1}', "", b"\x00"])
    async def test_chat_room_closes_on_an_invalid_message(self, bad: str | bytes):
        """D4"""
        async with self.connect_all(*[room_path()] * 3) as (sender, peer, other):
            await sender.send(bad)
            async with asyncio.timeout(2):
                assert (await sender.closed())[0] == 1011
            await other.send(json.dumps({"message": "next"}))
            assert await peer.receive() == '{"message": "next"}'

    async def test_chat_room_names(self):
        """D5"""
        async with self.connect("/ws/chat/" + "a" * 94 + "/"):
            pass
        assert await self.status_of("/ws/chat/" + "a" * 95 + "/") == 404
        assert await self.status_of("/ws/chat/a%20b/") == 404

    async def test_chat_rooms_are_separate(self):
        """D6"""
        async with self.connect_all(room_path(), room_path()) as (one, other):
            await other.send('{"message": "for the other room"}')
            assert await other.receive() == '{"message": "for the other room"}'
            await one.send('{"message": "for this room"}')
            assert await one.receive() == '{"message": "for this room"}'

    # /broadcast and /broadcast/{topic}

    @pytest.mark.parametrize("path", ["/broadcast", "/broadcast/news"])
    async def test_broadcast_reaches_every_member_unchanged(self, path: str):
        messages = ["text 😀", b"\x00\xff", "", b""]
        async with self.connect_all(path, path, path) as members:
            for message in messages:
                await members[0].send(message)
            for member in members:
                assert await member.receive_many(len(messages)) == messages

    async def test_broadcast_has_the_same_order_for_all_members(self):
        async def publish(member: Connection, name: str):
            for index in range(100):
                await member.send(f"{name} {index}")

        async with self.connect_all(*["/broadcast/order"] * 4) as members:
            await asyncio.gather(publish(members[0], "a"), publish(members[1], "b"))
            received = [await member.receive_many(200) for member in members]
            assert all(messages == received[0] for messages in received)
            for name in "ab":
                own = [message for message in received[0] if message.startswith(name)]
                assert own == [f"{name} {index}" for index in range(100)]

    async def test_broadcast_reaches_a_member_that_has_just_joined(self):
        async def join_and_listen(publisher: Connection, name: str):
            async with self.connect("/broadcast/joining") as member:
                await publisher.send(name)
                while await member.receive() != name:
                    pass

        async with self.connect("/broadcast/joining") as publisher:
            for batch in range(50):
                names = [f"{batch}/{index}" for index in range(10)]
                await asyncio.gather(*[join_and_listen(publisher, name) for name in names])
                assert sorted(await publisher.receive_many(10)) == names

    async def test_broadcast_topics_are_separate(self):
        async with self.connect_all("/broadcast/a", "/broadcast/b", "/broadcast") as members:
            for name, member in zip(["a", "b", "default"], members):
                await member.send(name)
                assert await member.receive() == name

    async def status_of(self, path: str) -> int:
        """The HTTP status of the response to an opening handshake."""
        try:
            async with self.connect(path):
                return 101
        except Refused as refused:
            return refused.status


def websocket_url(path: str, variable: str = "FRAMELOOP_URL") -> str:
    if variable not in os.environ:
        pytest.skip(f"{variable} is not set")
    return os.environ[variable].replace("http", "ws", 1).rstrip("/") + path


COMPRESSING_SERVERS = pytest.mark.parametrize(
    "variable", ["FRAMELOOP_URL", "FRAMELOOP_TAKEOVER_URL"], ids=["context_takeover_of_the_client", "context_takeover"]
)


def compressed_payloads() -> list[str | bytes]:
    """JSON, multi-byte text and random bytes, twice, to be echoed unchanged."""
    payloads: list[str | bytes] = []
    for size in [0, 1, 100, 1_024, 16_384, 65_536, 1 << 20, 4 << 20]:
        records = (json.dumps({"id": i, "user": f"user-{i * 7919 % 1000}", "tags": ["a", "b"]}) for i in itertools.count())
        text = ""
        while len(text) < size:
            text += ",".join(itertools.islice(records, 1_000))
        payloads += [text[:size], ("中文😀é " * (size // 15 + 1))[: size // 3], os.urandom(size)]
    return payloads * 2


def client_ids(count: int) -> list[str]:
    """Unique numbers, because all clients of the ConnectionManager receive each other's messages."""
    return [str(next(_numbers)) for _ in range(count)]


async def receive_of(connection: Connection, client_id: str, count: int) -> list[str | bytes]:
    """The next messages about this client, without the departures of clients of earlier tests."""
    received: list[str | bytes] = []
    while len(received) < count:
        message = await connection.receive()
        if not re.fullmatch(r"Client -?\d+ left", message) or f"Client {client_id} " in message:
            received.append(message)
    return received


def room_path() -> str:
    return f"/ws/chat/room_{next(_numbers)}/"

"""The `websockets` client of Python."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from contract import (
    COMPRESSING_SERVERS,
    MESSAGE_LIMIT,
    Connection,
    Contract,
    Refused,
    compressed_payloads,
    websocket_url,
)
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


class WebsocketsConnection(Connection):
    def __init__(self, connection: ClientConnection):
        self.connection = connection
        self.subprotocol = connection.subprotocol

    async def send(self, message: str | bytes):
        try:
            await self.connection.send(message)
        except ConnectionClosed:
            pass  # `closed` says why

    async def next_message(self) -> str | bytes:
        return await self.connection.recv()

    async def ping(self, payload: bytes):
        await (await self.connection.ping(payload))

    async def close(self, code: int | None, reason: str = "") -> tuple[int | None, str]:
        await self.connection.close(code, reason)
        return self.received_close()

    async def closed(self) -> tuple[int | None, str]:
        try:
            message = await self.connection.recv()
        except ConnectionClosed:
            return self.received_close()
        raise AssertionError(f"received {message[:100]!r} instead of a Close frame")

    def abort(self):
        self.connection.transport.abort()

    def received_close(self) -> tuple[int | None, str]:
        close = self.connection.protocol.close_rcvd
        assert close is not None, "the connection ended without a Close frame"
        return (None if close.code == 1005 else close.code, close.reason)


class TestWebsockets(Contract):
    @asynccontextmanager
    async def connect(self, path: str, subprotocols: Sequence[str] = ()) -> AsyncIterator[WebsocketsConnection]:
        try:
            connection = await connect(websocket_url(path), subprotocols=subprotocols or None, max_size=None)
        except InvalidStatus as refused:
            raise Refused(refused.response.status_code) from None
        try:
            yield WebsocketsConnection(connection)
        finally:
            if connection.protocol.close_rcvd is None:
                await connection.close()

    @pytest.mark.parametrize("fragments", [["", ""], ["Hel", "", "lo"], ["😀"] * 1_000], ids=["empty", "three", "1000"])
    async def test_echoes_text_in_fragments(self, fragments: list[str]):
        async with self.connect("/echo") as connection:
            await connection.connection.send(fragments)
            assert await connection.receive() == "".join(fragments)

    @pytest.mark.parametrize("size", [1, 125, 65_536, MESSAGE_LIMIT // 16])
    async def test_echoes_binary_in_fragments(self, size: int):
        fragments = [bytes([index]) * size for index in range(16)]
        async with self.connect("/echo") as connection:
            await connection.connection.send(fragments)
            assert await connection.receive() == b"".join(fragments)

    async def test_echoes_text_cut_inside_its_characters(self):
        encoded = "😀中é".encode()
        async with self.connect("/echo") as connection:
            await connection.connection.send([bytes([byte]) for byte in encoded], text=True)
            assert await connection.receive() == "😀中é"

    async def test_answers_pings_between_fragments(self):
        """F5"""
        async with self.connect("/ws") as connection:

            async def fragments():
                for fragment in ["h", "i", "!"]:
                    yield fragment
                    await connection.ping(b"between")

            await connection.connection.send(fragments())
            assert await connection.receive() == "Echo: hi!"

    async def test_closes_with_1009_when_the_last_fragment_goes_over_the_limit(self):
        async with self.connect("/echo") as connection:
            fragments = itertools.chain([bytes(MESSAGE_LIMIT // 16)] * 16, [b"x"])
            await connection.connection.send(fragments)
            assert (await connection.closed())[0] == 1009

    async def test_closes_with_1007_on_text_that_is_not_utf8(self):
        async with self.connect("/echo") as connection:
            await connection.connection.send(b"\xed\xa0\x80", text=True)
            assert (await connection.closed())[0] == 1007

    @COMPRESSING_SERVERS
    async def test_compresses(self, variable: str):
        async with connect(websocket_url("/echo", variable), max_size=None) as connection:
            assert [extension.name for extension in connection.protocol.extensions] == ["permessage-deflate"]
            for payload in compressed_payloads():
                await connection.send(payload)
                assert await connection.recv() == payload

    @COMPRESSING_SERVERS
    async def test_compresses_fragments(self, variable: str):
        fragments = ["compressed one by one ", "", "compressed one by one ", "and sent"]
        async with connect(websocket_url("/echo", variable)) as connection:
            for _ in range(3):
                await connection.send(fragments)
                assert await connection.recv() == "".join(fragments)

    async def test_answers_many_pings_in_order(self):
        async with self.connect("/echo") as connection:
            pongs = [await connection.connection.ping(str(index).encode()) for index in range(100)]
            await asyncio.gather(*pongs)

"""The `aiohttp` client of Python."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientConnectionError, ClientSession, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from contract import (
    COMPRESSING_SERVERS,
    Connection,
    Contract,
    Refused,
    compressed_payloads,
    room_path,
    websocket_url,
)


class AiohttpConnection(Connection):
    def __init__(self, response: ClientWebSocketResponse):
        self.response = response
        self.subprotocol = response.protocol

    async def send(self, message: str | bytes):
        try:
            await (self.response.send_str if isinstance(message, str) else self.response.send_bytes)(message)
        except (ClientConnectionError, ConnectionError):
            pass  # `closed` says why

    async def next_message(self) -> str | bytes:
        message = await self.response.receive()
        assert message.type in (WSMsgType.TEXT, WSMsgType.BINARY), f"received {message}"
        return message.data

    async def ping(self, payload: bytes):
        await self.response.ping(payload)
        message = await self.response.receive()
        assert (message.type, message.data) == (WSMsgType.PONG, payload)

    async def close(self, code: int | None, reason: str = "") -> tuple[int | None, str]:
        payload = b"" if code is None else code.to_bytes(2, "big") + reason.encode()
        await self.response.send_frame(payload, WSMsgType.CLOSE)
        return await self.closed()

    async def closed(self) -> tuple[int | None, str]:
        message = await self.response.receive()
        assert message.type == WSMsgType.CLOSE, f"received {message}"
        return message.data or None, message.extra or ""

    def abort(self):
        self.response._response.connection.transport.abort()


class TestAiohttp(Contract):
    @asynccontextmanager
    async def connect(self, path: str, subprotocols: Sequence[str] = ()) -> AsyncIterator[AiohttpConnection]:
        # Without automatic answers the client shows every frame, and sends only what the test sends.
        options = {"autoping": False, "autoclose": False, "max_msg_size": 0}
        async with ClientSession() as session:
            try:
                response = await session.ws_connect(websocket_url(path), protocols=subprotocols, **options)
            except WSServerHandshakeError as refused:
                raise Refused(refused.status) from None
            async with response:
                yield AiohttpConnection(response)

    async def test_with_the_default_options(self):
        """A11"""
        async with ClientSession() as session:
            websocket = await session.ws_connect(websocket_url("/ws"))
            await websocket.send_str("hi")
            message = await websocket.receive()
            assert (message.type, message.data) == (WSMsgType.TEXT, "Echo: hi")
            await websocket.close()
            assert websocket.close_code == 1000

    @COMPRESSING_SERVERS
    @pytest.mark.parametrize("window", [15, 9])
    async def test_compresses(self, variable: str, window: int):
        url = websocket_url("/echo", variable)
        async with ClientSession() as session, session.ws_connect(url, compress=window, max_msg_size=0) as websocket:
            assert websocket.compress
            for payload in compressed_payloads():
                send = websocket.send_str if isinstance(payload, str) else websocket.send_bytes
                await send(payload)
                assert (await websocket.receive()).data == payload

    async def test_pongs_answer_the_heartbeat(self):
        async with ClientSession() as session, session.ws_connect(websocket_url("/ws"), heartbeat=0.1) as websocket:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(websocket.receive(), timeout=0.5)  # an unanswered ping would have closed it
            await websocket.send_str("still open")
            assert await websocket.receive_str() == "Echo: still open"

    async def test_json_to_a_chat_room(self):
        async with ClientSession() as session, session.ws_connect(websocket_url(room_path())) as websocket:
            await websocket.send_json({"message": {"nested": ["é", 1.5, None]}})
            assert await websocket.receive_json() == {"message": {"nested": ["é", 1.5, None]}}

    async def test_two_connections_of_one_session(self):
        async with (
            ClientSession() as session,
            session.ws_connect(websocket_url("/echo")) as one,
            session.ws_connect(websocket_url("/ws")) as two,
        ):
            await one.send_bytes(b"one")
            await two.send_str("two")
            assert await one.receive_bytes() == b"one"
            assert await two.receive_str() == "Echo: two"

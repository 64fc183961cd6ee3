"""The server of websockets: echo."""

import asyncio

from websockets.asyncio.server import ServerConnection, serve


async def echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)


async def main() -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        print(f"serves on http://127.0.0.1:{port}", flush=True)
        await server.serve_forever()


asyncio.run(main())

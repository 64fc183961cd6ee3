"""The application of the Flask-SocketIO tutorial, which clients must not be able to distinguish from
frameloop, with the events that the tutorial only mentions: rooms, acknowledgements, a namespace.

Prints its address. ASYNC_MODE=threading|gevent, REDIS_QUEUE=redis://HOST:PORT/0,
PING_TIMEOUT=SECONDS
"""

import os
import signal
import socket
import threading
import time

if os.environ.get("ASYNC_MODE") == "gevent":
    from gevent import monkey

    monkey.patch_all()

from flask import Flask, cli
from flask_socketio import ConnectionRefusedError, SocketIO, disconnect, emit, join_room, leave_room, send

app = Flask(__name__)
socketio = SocketIO(
    app,
    cors_allowed_origins="*",
    async_mode=os.environ.get("ASYNC_MODE", "threading"),
    message_queue=os.environ.get("REDIS_QUEUE"),
    ping_timeout=int(os.environ.get("PING_TIMEOUT", "20")),
)


@socketio.on("connect")
def handle_connect():
    emit("response", {"data": "连接成功"})


@socketio.on("message")
def handle_message(data):
    emit("response", {"data": f"收到: {data}"}, broadcast=True)


@socketio.on("echo")
def handle_echo(*args):
    emit("echo", args[0] if len(args) == 1 else args)
    return args[0] if args else None


@socketio.on("join")
def handle_join(data):
    join_room(data["room"])
    emit("response", {"data": f"joined {data['room']}"}, to=data["room"])


@socketio.on("leave")
def handle_leave(data):
    leave_room(data["room"])
    return "left"


@socketio.on("room")
def handle_room(data):
    emit("response", {"data": data["data"]}, to=data["room"], include_self=data.get("self", True))


@socketio.on("ack")
def handle_ack(data):
    return "ok", data


@socketio.on("ask")
def handle_ask(data):
    emit("question", data, callback=lambda *answer: socketio.emit("answer", list(answer)))


@socketio.on("bye")
def handle_bye():
    disconnect()


@socketio.on("connect", namespace="/ns")
def ns_connect(auth=None):
    if isinstance(auth, dict) and auth.get("token") == "bad":
        raise ConnectionRefusedError("unauthorized")
    emit("response", {"data": "ns"})


@socketio.on("message", namespace="/ns")
def ns_message(data):
    send(data, broadcast=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def announce(port):
    """Prints the address once the server listens."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return print(f"http://127.0.0.1:{port}", flush=True)
        except OSError:
            time.sleep(0.02)


if __name__ == "__main__":
    cli.show_server_banner = lambda *_: None  # the address is the first line
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    port = free_port()
    threading.Thread(target=announce, args=[port], daemon=True).start()
    socketio.run(app, host="127.0.0.1", port=port, allow_unsafe_werkzeug=True)

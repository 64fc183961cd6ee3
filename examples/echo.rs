//! An echo server: `cargo run --example echo`, then connect to ws://127.0.0.1:8000/echo.

use frameloop::{Message, Router, Server, WebSocket};

/// Text and binary messages are echoed unchanged. The library itself answers Ping and Close.
fn echo(socket: &mut WebSocket<'_>, message: Message<'_>) {
    if message.is_data() {
        socket.send(message);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8000".into());
    let server = Server::bind(&address).await?;
    for address in server.local_addresses()? {
        println!("listening on ws://{address}/echo");
    }
    server
        .serve(Router::new().websocket("/echo", |_| echo))
        .await
}

//! Chat rooms: `cargo run --example chat`, then connect twice to ws://127.0.0.1:8000/chat/lobby.

use frameloop::{CloseCode, Handler, Membership, Message, Rooms, Router, Server, WebSocket};

/// One client. Dropping its membership removes it from the room.
struct Chat {
    rooms: Rooms,
    room: String,
    membership: Option<Membership>,
}

impl Handler for Chat {
    fn open(&mut self, socket: &mut WebSocket<'_>) {
        match self.rooms.join(&self.room, &socket.peer()) {
            Ok(membership) => self.membership = Some(membership),
            Err(error) => socket.close(CloseCode::Policy, error.reason()),
        }
    }

    fn message(&mut self, socket: &mut WebSocket<'_>, message: Message<'_>) {
        match message {
            Message::Text(text) => self.rooms.publish(&self.room, Message::Text(text)),
            Message::Binary(_) => socket.close(CloseCode::Unsupported, "this room speaks text"),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let rooms = Rooms::default();
    let app = Router::new().websocket("/chat/{room}", move |request| Chat {
        rooms: rooms.clone(),
        room: request.param("room").to_owned(),
        membership: None,
    });
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8000".into());
    let server = Server::bind(&address).await?;
    for address in server.local_addresses()? {
        println!("listening on ws://{address}/chat/lobby");
    }
    server.serve(app).await
}

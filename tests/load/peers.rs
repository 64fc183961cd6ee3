//! Servers that are not ours: tungstenite's, and one that echoes TCP.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use frameloop::handshake::accept_key::accept_key;
use tungstenite::WebSocket;
use tungstenite::protocol::Role;

use crate::client::receive_head;
use crate::load;

/// Serves each connection on a thread of its own, for as long as the test runs.
fn serve(connection: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = stream.set_nodelay(true);
            thread::spawn(move || connection(stream));
        }
    });
    address
}

fn tungstenite_echo(mut stream: TcpStream) {
    let Ok(head) = receive_head(&mut stream) else {
        return;
    };
    let key = head
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
        .unwrap();
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        accept_key(key.as_bytes())
    );
    if stream.write_all(answer.as_bytes()).is_err() {
        return;
    }
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    while let Ok(message) = socket.read() {
        let is_data = message.is_text() || message.is_binary();
        if (is_data && socket.send(message).is_err()) || socket.flush().is_err() {
            return;
        }
    }
}

fn tcp_echo(mut stream: TcpStream) {
    let mut buffer = [0; 1 << 16];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) if stream.write_all(&buffer[..length]).is_err() => return,
            Err(error) if error.kind() != ErrorKind::Interrupted => return,
            _ => {}
        }
    }
}

#[test]
fn another_servers_echo_is_loaded_in_every_mode() {
    let url = format!("ws://{}/", serve(tungstenite_echo));
    for arguments in [
        "-c 3 --messages 90",
        "-c 3 --messages 90 -d 16 -s 0..70000 --text",
        "-c 3 --messages 90 --fragment 100",
        "-c 3 --messages 90 --rate 1000",
        "-c 3 --messages 9 --connect",
        "-c 3 --messages 9 --churn",
        "-c 3 --idle -t 100ms",
    ] {
        load(&url, arguments).is_clean();
    }
}

#[test]
fn raw_tcp_gets_the_same_bytes_without_a_handshake() {
    let url = format!("ws://{}/", serve(tcp_echo));
    for arguments in [
        "-c 3 --messages 90 -s 20 -d 16",
        "-c 3 --messages 90 -s 0..70000",
        "-c 3 --messages 90 -s 1000 --text --fragment 100",
        "-c 3 --messages 90 --rate 1000",
        "-c 3 --messages 9 --connect",
        "-c 3 --idle -t 100ms",
    ] {
        load(&url, &format!("{arguments} --raw")).is_clean();
    }
}

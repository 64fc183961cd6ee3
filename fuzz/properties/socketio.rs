//! Whatever a client of Socket.IO sends, the server answers the next one, and keeps nothing of the
//! one before.

use std::cell::OnceCell;
use std::sync::Arc;

use frameloop::http::{HttpSettings, InProcessServer};
use frameloop::socketio::{self, AckSender, Args, Event, Service, SocketRef};
use frameloop::{Router, Settings};

use super::client::Frame;

thread_local! {
    /// Never dropped: a runtime cannot end among a thread's last values.
    static SERVER: OnceCell<&'static Server> = const { OnceCell::new() };
}

struct Server {
    in_process: InProcessServer,
    service: Arc<Service>,
}

/// The first octet says how the rest is sent: as the body of a POST, or as messages.
pub(crate) fn check(input: &[u8]) {
    let Some((&transport, rest)) = input.split_first() else {
        return;
    };
    SERVER.with(|server| {
        let server = server.get_or_init(|| Box::leak(Box::new(Server::new())));
        match transport % 2 {
            0 => server.post(rest),
            _ => server.send(rest),
        }
        // Those that have ended are forgotten when the runtime has its next turn.
        let left = server.service.sessions();
        assert!(left < 8, "{left} sessions are left");
    });
}

impl Server {
    fn new() -> Server {
        let (service, io) = socketio::service(socketio::Settings::default());
        for namespace in ["/", "/n"] {
            io.ns(namespace, async |socket: SocketRef| {
                socket.on_fallback(
                    async |socket: SocketRef, Event(event): Event, args: Args, ack: AckSender| {
                        let _ = socket.emit(event, &args);
                        let _ = ack.send(&args);
                    },
                );
            });
        }
        let router = Router::new().mount("/socket.io/", Arc::clone(&service) as Arc<_>);
        let in_process = InProcessServer::new(router, Settings::default(), HttpSettings::default());
        Server {
            in_process: in_process.expect("a poller"),
            service,
        }
    }

    /// Posts to a session that has joined `/`.
    fn post(&self, body: &[u8]) {
        let open = self.ask("GET", "", b"");
        let text = String::from_utf8_lossy(&open);
        let (_, sid) = text.split_once(r#""sid":""#).expect("a new session");
        let session = format!("&sid={}", sid.split('"').next().unwrap_or_default());
        assert_eq!(status(&self.ask("POST", &session, b"40")), 200);
        assert!([200, 400].contains(&status(&self.ask("POST", &session, body))));
        // If it still is, it has at least this to tell.
        let answer = self.ask("POST", &session, br#"427["last"]"#);
        if status(&answer) == 200 {
            assert!([200, 400].contains(&status(&self.ask("GET", &session, b""))));
        }
        self.ask("POST", &session, b"1");
    }

    /// Sends messages after the one that joins `/`; each ends with 0xFF.
    fn send(&self, messages: &[u8]) {
        let mut octets = b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\n\
            Upgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            .to_vec();
        let messages = messages.split(|octet| *octet == 0xFF);
        for payload in [b"40".as_slice()].into_iter().chain(messages) {
            let is_text = std::str::from_utf8(payload).is_ok();
            let frame = Frame {
                first: if is_text { 0x81 } else { 0x82 },
                payload,
                key: Some([1, 2, 3, 4]),
            };
            octets.extend(frame.octets());
        }
        assert_eq!(status(&self.exchange(&octets)), 101);
    }

    fn ask(&self, method: &str, session: &str, body: &[u8]) -> Vec<u8> {
        let length = body.len();
        let head = format!(
            "{method} /socket.io/?EIO=4&transport=polling{session} HTTP/1.1\r\nHost: a\r\n\
             Connection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        self.exchange(&[head.as_bytes(), body].concat())
    }

    fn exchange(&self, octets: &[u8]) -> Vec<u8> {
        let answer = self.in_process.exchange(octets);
        answer.expect("an answer")
    }
}

fn status(response: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(response);
    let digits = text.split(' ').nth(1);
    digits
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_else(|| panic!("no status: {text}"))
}

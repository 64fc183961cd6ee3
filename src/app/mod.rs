//! The ready-made endpoints of the binary, and their table.

mod broadcast;
mod channels_chat;
pub mod compat;
mod connection_manager;
mod echo;
mod faults;
mod flask_socketio;
mod page;
mod python;
mod python_repr;
mod tutorial_echo;

use http::{HeaderMap, HeaderValue, header};

use broadcast::BroadcastHandler;
use channels_chat::ChatConsumer;
use compat::EchoService;
use connection_manager::{ChatClient, ChatRoom};
use echo::Echo;
use tutorial_echo::tutorial_echo;

use crate::engine::WebSocket;
use crate::handshake::Subprotocols;
use crate::http::{Endpoint, Page, Router};
use crate::protocol::CloseCode;
use crate::rooms::redis::{Format, Redis};
use crate::rooms::{JoinError, Membership, Rooms};
use crate::socketio;

/// One line of the endpoint list.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// A path to try.
    pub example: &'static str,
    /// What the endpoint does.
    pub what: &'static str,
    /// `true` for a WebSocket endpoint, `false` for plain HTTP.
    pub is_websocket: bool,
}

impl Description {
    pub(crate) const fn websocket(example: &'static str, what: &'static str) -> Description {
        Description {
            example,
            what,
            is_websocket: true,
        }
    }

    pub(crate) const fn page(example: &'static str, what: &'static str) -> Description {
        Description {
            is_websocket: false,
            ..Description::websocket(example, what)
        }
    }
}

/// Every endpoint, in the order of the list.
pub const ENDPOINTS: &[Description] = &[
    Description::websocket("/echo", "every message back unchanged (also at /)"),
    Description::websocket("/ws", "text back as 'Echo: TEXT' (FastAPI, aiohttp)"),
    Description::websocket("/ws/1", "chat as client 1 (FastAPI ConnectionManager)"),
    Description::websocket("/ws/chat/lobby/", "JSON chat room (Django Channels)"),
    Description::websocket("/broadcast", "every message to all clients here"),
    Description::websocket("/broadcast/news", "the same, by topic"),
    Description::page(SOCKETIO, "Socket.IO (Flask-SocketIO)"),
    Description::page("/", "this list, or in a browser a test page"),
    Description::page("/healthz", "200 'ok'"),
];

const SOCKETIO: &str = "/socket.io/";

/// Settings of the ready-made endpoints.
#[derive(Clone, Debug)]
pub struct AppSettings {
    /// Whether clients of `/echo` may request faults. Default: `true`.
    pub faults: bool,
    /// The echo service to emulate instead of the ready-made endpoints. Default: `None`.
    pub compat: Option<EchoService>,
    /// The Redis through which the rooms are shared with other processes. Default: `None`, not
    /// shared.
    pub redis: Option<Redis>,
    /// Notices a second to the clients of `/ws/{client_id}` that another client has left; also the
    /// size of a burst. Notices beyond the rate are sent together. `None` means unlimited.
    /// Default: 1,000.
    pub max_publish_rate: Option<u32>,
    /// Whether the same bytes must always get the same answers. Then faults without a seed use seed
    /// 0, and Socket.IO is off because its session ids are random. Default: `false`.
    pub deterministic: bool,
    /// Settings of Socket.IO; `None` turns it off. Default: on, with its default settings.
    pub socketio: Option<socketio::SocketIoSettings>,
    /// Pages that the program adds to the router itself, for the list at `/`. Default: none.
    pub further_pages: Vec<Description>,
}

impl AppSettings {
    /// Whether the server offers Socket.IO.
    pub fn has_socketio(&self) -> bool {
        self.socketio.is_some() && !self.deterministic
    }

    /// The endpoints that the server offers, in the order of the list.
    pub fn endpoints(&self) -> impl Iterator<Item = &Description> {
        let (own, further) = match self.compat {
            Some(service) => (service.endpoints(), &[][..]),
            None => (ENDPOINTS, &*self.further_pages),
        };
        let is_there =
            |endpoint: &&Description| self.has_socketio() || endpoint.example != SOCKETIO;
        own.iter().filter(is_there).chain(further)
    }
}

impl Default for AppSettings {
    fn default() -> AppSettings {
        AppSettings {
            faults: true,
            compat: None,
            redis: None,
            max_publish_rate: Some(1_000),
            deterministic: false,
            socketio: Some(socketio::SocketIoSettings::default()),
            further_pages: Vec::new(),
        }
    }
}

/// The router of the ready-made endpoints, with default settings.
pub fn router() -> Router {
    router_with(AppSettings::default())
}

/// The router of the ready-made endpoints, with these settings.
pub fn router_with(settings: AppSettings) -> Router {
    if let Some(service) = settings.compat {
        return service.router(page::for_browsers(&settings));
    }
    let deterministic = settings.deterministic;
    let echo_endpoint = match settings.faults {
        true => {
            let seed = deterministic.then_some(0);
            Endpoint::new(|_| Echo).choosing(move |request| faults::endpoint(request, seed))
        }
        false => Endpoint::new(|_| Echo),
    };
    let rooms = |format| match &settings.redis {
        Some(redis) => redis.join(&Rooms::default(), format),
        None => Rooms::default(),
    };
    let clients = ChatRoom::new(rooms(Format::Own("clients")), settings.max_publish_rate);
    let chat = rooms(channels_chat::FORMAT);
    let topics = rooms(Format::Own("broadcast"));
    let client =
        Endpoint::refusing(move |request| ChatClient::new(&clients, request.param("client_id")));
    let chat =
        Endpoint::refusing(move |request| ChatConsumer::new(&chat, request.param("room_name")));
    let broadcast = |topics: Rooms| {
        any_subprotocol(Endpoint::new(move |request| {
            BroadcastHandler::new(&topics, request.param("topic"))
        }))
    };
    let (document, list) = (page::for_browsers(&settings), listing(&settings));
    let router = Router::new()
        .page("/", move |request| {
            front_page(&document, request.headers(), &list)
        })
        .endpoint("/", any_subprotocol(Endpoint::new(|_| Echo)))
        .endpoint("/echo", any_subprotocol(echo_endpoint))
        .websocket("/ws", |_| tutorial_echo)
        .endpoint("/ws/{client_id}", client.publishing())
        .endpoint("/ws/chat/{room_name}/", chat.publishing())
        .endpoint("/broadcast", broadcast(topics.clone()).publishing())
        .endpoint("/broadcast/{topic}", broadcast(topics).publishing())
        .probe("/healthz", |_| Page::text("ok"));
    with_socketio(router, settings)
}

/// Joins a room. Closes the connection if it cannot.
fn join(rooms: &Rooms, room: &str, socket: &mut WebSocket<'_>) -> Option<Membership> {
    let joined = rooms.join(room, &socket.peer());
    let refused = |error: JoinError| socket.close(CloseCode::Policy, error.reason());
    joined.map_err(refused).ok()
}

/// Adds the application of the Flask-SocketIO tutorial.
fn with_socketio(router: Router, settings: AppSettings) -> Router {
    let has_socketio = settings.has_socketio();
    let Some(settings) = settings.socketio.filter(|_| has_socketio) else {
        return router;
    };
    let (service, io) = socketio::service(settings);
    flask_socketio::register(&io);
    router
        .page("/socket.io/socket.io.js", |_| {
            Page::script(socketio::BROWSER_CLIENT)
        })
        .mount(SOCKETIO, service)
}

/// Accepts the first offered subprotocol: a browser fails the connection if the server accepts none
/// of its offers.
fn any_subprotocol(endpoint: Endpoint) -> Endpoint {
    endpoint.with_subprotocols(Subprotocols::FirstOffered)
}

/// The test page for browsers, a text list for other clients.
fn front_page(document: &Page, headers: &HeaderMap, list: &str) -> Page {
    let accept = headers.get(header::ACCEPT).map(HeaderValue::as_bytes);
    let is_browser = accept.is_some_and(|accept| accept.starts_with(b"text/html"));
    match is_browser {
        true => document.clone(),
        false => Page::text(list.to_owned()),
    }
}

fn listing(settings: &AppSettings) -> String {
    let mut text =
        String::from("frameloop: a WebSocket server to measure, test and fuzz against\n\n");
    for endpoint in settings.endpoints() {
        let Description { example, what, .. } = endpoint;
        let kind = match endpoint.is_websocket {
            true => "websocket",
            false => "http",
        };
        text.push_str(&format!("{kind:<10} {example:<18} {what}\n"));
    }
    text
}

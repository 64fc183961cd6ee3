//! Floor 6: the endpoint table, the only place that names them all.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

use crate::compat::EchoService;
use crate::faults;
use crate::handlers::broadcast::Broadcast;
#[cfg(feature = "redis")]
use crate::handlers::channels_chat;
use crate::handlers::channels_chat::ChatConsumer;
use crate::handlers::connection_manager::Client;
use crate::handlers::echo::Echo;
use crate::handlers::tutorial_echo::tutorial_echo;
use crate::handshake::Subprotocols;
use crate::http::{Endpoint, Page, Router};
use crate::rooms::Rooms;
#[cfg(feature = "redis")]
use crate::rooms::redis::{Format, Redis};
#[cfg(feature = "socketio")]
use crate::socketio;

/// An endpoint as people are told of it.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// A path to try.
    pub example: &'static str,
    /// What is there.
    pub what: &'static str,
    /// Whether it speaks WebSocket rather than plain HTTP.
    pub is_websocket: bool,
}

/// Every endpoint, in the order in which people are told of them.
pub const ENDPOINTS: &[Description] = &[
    websocket("/echo", "every message back unchanged (also at /)"),
    websocket("/ws", "text back as 'Echo: TEXT' (FastAPI, aiohttp)"),
    websocket("/ws/1", "chat as client 1 (FastAPI ConnectionManager)"),
    websocket("/ws/chat/lobby/", "JSON chat room (Django Channels)"),
    websocket("/broadcast", "every message to everybody here"),
    websocket("/broadcast/news", "the same, by topic"),
    #[cfg(feature = "socketio")]
    page(SOCKETIO, "Socket.IO (Flask-SocketIO)"),
    page("/", "this list; in a browser a page to try them"),
    page("/healthz", "200 'ok'"),
];

/// The endpoints that are served, by this server's own name or in another service's stead,
/// [deterministic](AppSettings::deterministic) or not.
pub fn endpoints(
    compat: Option<EchoService>,
    deterministic: bool,
) -> impl Iterator<Item = &'static Description> {
    const JMALLOC: &[Description] = &[
        websocket("/", "who serves, then every message back (on any path)"),
        page("/.sse", "the request and the time, as events"),
        page("/.ws", "a page to try it"),
        page("/", "the request back (on any path)"),
    ];
    const LPINCA: &[Description] = &[websocket("/", "every message back (on any path)")];
    const FIREWALK: &[Description] = &[
        websocket("/websocket", "what was asked, then Close"),
        websocket("/websocket/payloads/3", "the same three times, then Close"),
        websocket("/websocket/echo", "every message back"),
        websocket("/websocket/ping/3", "Close after three Pings"),
    ];
    const HTTPBIN: &[Description] = &[websocket(
        "/websocket/echo",
        "every message back, in fragments (?max_fragment_size=2)",
    )];
    const HTTPARENA: &[Description] = &[websocket("/ws", "every message back")];
    let endpoints = match compat {
        None => ENDPOINTS,
        Some(EchoService::Jmalloc) => JMALLOC,
        Some(EchoService::Lpinca) => LPINCA,
        Some(EchoService::Firewalk) => FIREWALK,
        Some(EchoService::Httpbin) => HTTPBIN,
        Some(EchoService::Httparena) => HTTPARENA,
    };
    let is_there = move |endpoint: &&Description| !(deterministic && endpoint.example == SOCKETIO);
    endpoints.iter().filter(is_there)
}

const SOCKETIO: &str = "/socket.io/";

const fn websocket(example: &'static str, what: &'static str) -> Description {
    Description {
        example,
        what,
        is_websocket: true,
    }
}

const fn page(example: &'static str, what: &'static str) -> Description {
    Description {
        example,
        what,
        is_websocket: false,
    }
}

/// What the ready-made endpoints are told.
#[derive(Clone, Debug)]
pub struct AppSettings {
    /// Whether clients of `/echo` may ask for faults.
    pub faults: bool,
    /// What is served instead of the ready-made endpoints, if anything is.
    pub compat: Option<EchoService>,
    /// Where the rooms are those of other processes, too; `None` if they are this one's alone.
    #[cfg(feature = "redis")]
    pub redis: Option<Redis>,
    /// Whether the same octets must give the same answers: faults without a seed have 0, and there
    /// is no Socket.IO, whose session ids are random.
    pub deterministic: bool,
    /// What sessions of Socket.IO are held to.
    #[cfg(feature = "socketio")]
    pub socketio: socketio::Settings,
}

impl Default for AppSettings {
    fn default() -> AppSettings {
        AppSettings {
            faults: true,
            compat: None,
            #[cfg(feature = "redis")]
            redis: None,
            deterministic: false,
            #[cfg(feature = "socketio")]
            socketio: socketio::Settings::default(),
        }
    }
}

/// The router of the ready-made endpoints.
pub fn router() -> Router {
    router_with(AppSettings::default())
}

/// The router of the ready-made endpoints, with other settings than the default.
pub fn router_with(settings: AppSettings) -> Router {
    if let Some(service) = settings.compat {
        return service.router(Page::html(document(&settings), PAGE_POLICY));
    }
    let deterministic = settings.deterministic;
    let echo_endpoint = match settings.faults {
        true => {
            let seed = deterministic.then_some(0);
            Endpoint::new(|_| Echo)
                .diverting(move |request, settings| faults::divert(request, settings, seed))
        }
        false => Endpoint::new(|_| Echo),
    };
    let (clients, chat, topics) = rooms(&settings);
    let topic_rooms = topics.clone();
    let document = document(&settings);
    let router = Router::new()
        .page("/", move |request| {
            front_page(&document, request.headers(), deterministic)
        })
        .endpoint("/", any_subprotocol(Endpoint::new(|_| Echo)))
        .endpoint("/echo", any_subprotocol(echo_endpoint))
        .websocket("/ws", |_| tutorial_echo)
        .endpoint(
            "/ws/{client_id}",
            Endpoint::refusing(move |request| Client::new(&clients, request.param("client_id")))
                .publishing(),
        )
        .endpoint(
            "/ws/chat/{room_name}/",
            Endpoint::refusing(move |request| ChatConsumer::new(&chat, request.param("room_name")))
                .publishing(),
        )
        .endpoint(
            "/broadcast",
            any_subprotocol(Endpoint::new(move |_| Broadcast::new(&topics, "")).publishing()),
        )
        .endpoint(
            "/broadcast/{topic}",
            any_subprotocol(
                Endpoint::new(move |request| Broadcast::new(&topic_rooms, request.param("topic")))
                    .publishing(),
            ),
        )
        .page("/healthz", |_| Page::text("ok"));
    with_socketio(router, settings)
}

/// The rooms of the tutorials' clients, of the chat, and of the topics.
fn rooms(settings: &AppSettings) -> (Rooms, Rooms, Rooms) {
    let alone = (Rooms::default(), Rooms::default(), Rooms::default());
    #[cfg(feature = "redis")]
    if let (Some(redis), (clients, chat, topics)) = (&settings.redis, &alone) {
        return (
            redis.join(clients, Format::Own("clients")),
            redis.join(chat, channels_chat::FORMAT),
            redis.join(topics, Format::Own("broadcast")),
        );
    }
    let _ = settings;
    alone
}

/// Adds the Flask-SocketIO tutorial's application.
#[cfg(feature = "socketio")]
fn with_socketio(router: Router, settings: AppSettings) -> Router {
    if settings.deterministic {
        return router;
    }
    let (service, io) = socketio::service(settings.socketio);
    socketio::tutorial::register(&io);
    router
        .page("/socket.io/socket.io.js", |_| {
            Page::script(socketio::BROWSER_CLIENT)
        })
        .mount(SOCKETIO, service)
}

#[cfg(not(feature = "socketio"))]
fn with_socketio(router: Router, _: AppSettings) -> Router {
    router
}

/// Browsers fail a connection whose offered subprotocols are all passed over.
fn any_subprotocol(endpoint: Endpoint) -> Endpoint {
    endpoint.with_subprotocols(Subprotocols::FirstOffered)
}

/// The page for browsers, a list for all others.
fn front_page(document: &Bytes, headers: &HeaderMap, deterministic: bool) -> Page {
    let accept = headers.get(header::ACCEPT).map(HeaderValue::as_bytes);
    let is_browser = accept.is_some_and(|accept| accept.starts_with(b"text/html"));
    match is_browser {
        true => Page::html(document.clone(), PAGE_POLICY),
        false => Page::text(listing(deterministic)),
    }
}

const PAGE: &str = include_str!("page.html");

/// The page without the sections of what this server has not, and with where it connects to first.
fn document(settings: &AppSettings) -> Bytes {
    let is_ours = settings.compat.is_none();
    let has_socketio = cfg!(feature = "socketio") && !settings.deterministic;
    let sections = [
        ("chat", is_ours),
        ("faults", is_ours && settings.faults),
        ("socketio", is_ours && has_socketio),
    ];
    let absent = sections.iter().filter(|(_, is_there)| !is_there);
    let mut document = absent.fold(PAGE.to_owned(), |document, (name, _)| {
        let section = format!("<section id=\"{name}\"");
        document.replace(&section, &format!("{section} hidden"))
    });
    let endpoint = settings.compat.and_then(EchoService::page_endpoint);
    if let Some(endpoint) = endpoint {
        const FIELD: &str = "<input id=\"url\"";
        let value = endpoint.replace('&', "&amp;").replace('"', "&quot;");
        document = document.replace(FIELD, &format!("{FIELD} data-endpoint=\"{value}\""));
    }
    Bytes::from(document)
}

/// The page's own script and style and the client of Socket.IO, by their SHA-256, requests to this
/// server, WebSockets to anywhere, and nothing else.
const PAGE_POLICY: &str = "default-src 'none'; \
    script-src 'sha256-OqZBlhvjjRsunu0003VPN0IKyfKJyPX5KRCWofr5+GI=' \
    'sha256-1deaNQOehgsyve9HlVKLBcL3iNSy2drMkTEg4oePez8='; \
    style-src 'sha256-ZAgZHOFl7KqgcJC0o7ifhQ7iVgahWf0BHmPIexDEOvQ='; \
    connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

fn listing(deterministic: bool) -> String {
    let mut text =
        String::from("frameloop: a WebSocket server to measure, test and fuzz against\n\n");
    for Description {
        example,
        what,
        is_websocket,
    } in endpoints(None, deterministic).copied()
    {
        let kind = if is_websocket { "websocket" } else { "http" };
        text.push_str(&format!("{kind:<10} {example:<18} {what}\n"));
    }
    text
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use ring::digest::{SHA256, digest};

    use super::*;

    /// An edit of the page changes the hashes, without which no browser runs it.
    #[test]
    fn the_policy_of_the_page_names_its_scripts_and_its_style() {
        let element = |name: &str| {
            let (_, rest) = PAGE.split_once(&format!("<{name}>")).unwrap();
            rest.split_once(&format!("</{name}>")).unwrap().0
        };
        for (directive, text) in [
            ("script-src", element("script")),
            #[cfg(feature = "socketio")]
            ("script-src", socketio::BROWSER_CLIENT),
            ("style-src", element("style")),
        ] {
            let hash = BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes()));
            let source = format!("'sha256-{hash}'");
            let mut directives = PAGE_POLICY.split("; ");
            let sources = directives.find_map(|one| one.strip_prefix(directive));
            assert!(sources.unwrap().contains(&source), "{directive} {source}");
        }
    }

    #[test]
    fn the_page_explains_every_parameter_and_violation() {
        for name in faults::names() {
            let explained = format!("\n  {name}: ");
            assert_eq!(PAGE.matches(&explained).count(), 1, "{name}");
        }
    }

    #[test]
    fn the_page_hides_what_is_not_there() {
        let all = AppSettings::default;
        for (settings, hidden) in [
            (all(), &[][..]),
            (
                AppSettings {
                    faults: false,
                    ..all()
                },
                &["faults"],
            ),
            (
                AppSettings {
                    deterministic: true,
                    ..all()
                },
                &["socketio"],
            ),
            (
                AppSettings {
                    compat: Some(EchoService::Jmalloc),
                    ..all()
                },
                &["chat", "faults", "socketio"],
            ),
        ] {
            let document = document(&settings);
            let document = String::from_utf8_lossy(&document);
            for name in ["chat", "faults", "socketio"] {
                let is_hidden = document.contains(&format!("<section id=\"{name}\" hidden class"));
                let is_expected = hidden.contains(&name)
                    || (name == "socketio" && cfg!(not(feature = "socketio")));
                assert_eq!(is_hidden, is_expected, "{name}: {settings:?}");
            }
        }
    }
}

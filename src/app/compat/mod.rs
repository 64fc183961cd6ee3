//! Emulates well-known echo services, so that a client or test written for one of them runs against
//! this server. Each service has one file, which lists the differences.

mod firewalk;
mod httparena;
mod httpbin;
mod jmalloc;
mod lpinca;

use std::time::Duration;

use clap::ValueEnum;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Description;
use crate::engine::Peer;
use crate::http::{Page, Request, Router};
use crate::protocol::{CloseCode, CloseFrame};

/// An echo service that this server can emulate.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum EchoService {
    /// jmalloc/echo-server: sends the server's name, then echoes, on any path.
    #[value(help = "jmalloc/echo-server, also behind echo.websocket.org")]
    Jmalloc,
    /// websocket-echo.com, by lpinca: echoes on any path.
    #[value(help = "websocket-echo.com, used in wscat's documentation")]
    Lpinca,
    /// Firewalk, Alamofire's test server.
    #[value(help = "Alamofire's test server, at /websocket")]
    Firewalk,
    /// `/websocket/echo` of go-httpbin.
    #[value(help = "go-httpbin's /websocket/echo")]
    Httpbin,
    /// `/ws` as HttpArena's validator expects it.
    #[value(help = "/ws for HttpArena's validator and load")]
    Httparena,
}

impl EchoService {
    /// The endpoints of the service, for the list.
    pub fn endpoints(self) -> &'static [Description] {
        use Description as Is;
        match self {
            EchoService::Jmalloc => {
                const {
                    &[
                        Is::websocket("/", "the server's name, then every message back (any path)"),
                        Is::page("/.sse", "the request and the time as server-sent events"),
                        Is::page("/.ws", "a test page"),
                        Is::page("/", "the request back (any path)"),
                    ]
                }
            }
            EchoService::Lpinca => const { &[Is::websocket("/", "every message back (any path)")] },
            EchoService::Firewalk => {
                const {
                    &[
                        Is::websocket("/websocket", "a description of the request, then Close"),
                        Is::websocket(
                            "/websocket/payloads/3",
                            "the same message three times, then Close",
                        ),
                        Is::websocket("/websocket/echo", "every message back"),
                        Is::websocket("/websocket/ping/3", "Close after three Pings"),
                    ]
                }
            }
            EchoService::Httpbin => {
                const {
                    &[Is::websocket(
                        "/websocket/echo",
                        "every message back, in fragments (?max_fragment_size=2)",
                    )]
                }
            }
            EchoService::Httparena => const { &[Is::websocket("/ws", "every message back")] },
        }
    }

    /// The router that emulates the service. `page` is the test page, for services that have one.
    pub fn router(self, page: Page) -> Router {
        match self {
            EchoService::Jmalloc => jmalloc::router(page),
            EchoService::Lpinca => lpinca::router(),
            EchoService::Firewalk => firewalk::router(),
            EchoService::Httpbin => httpbin::router(),
            EchoService::Httparena => httparena::router(),
        }
    }

    /// The environment variables of the service from which the default of a flag comes. `field` is
    /// the flag's field name.
    pub fn variables_of(self, field: &str) -> &'static [&'static str] {
        match (self, field) {
            (EchoService::Jmalloc, "listen") => &["PORT"],
            (EchoService::Httpbin, "listen") => &["HOST", "PORT"],
            (EchoService::Lpinca, "listen") => &["BIND_ADDRESS", "BIND_PORT"],
            (EchoService::Lpinca, "ping_interval" | "ping_timeout") => &["HEARTBEAT_INTERVAL"],
            (EchoService::Lpinca, "max_message_size" | "max_frame_size") => &["MAX_MESSAGE_SIZE"],
            (EchoService::Lpinca, "high_water_mark") => &["HIGH_WATER_MARK"],
            _ => &[],
        }
    }

    /// Checks the environment variables of the service that do not belong to a flag. The error says
    /// which value is invalid and what to use.
    pub fn check_variables(self) -> Result<(), String> {
        match self {
            EchoService::Httpbin => httpbin::check_variables(),
            _ => Ok(()),
        }
    }

    /// The line that the service prints once it listens on `port`, if any.
    pub fn announcement(self, port: u16) -> Option<String> {
        match self {
            EchoService::Jmalloc => Some(format!("Echo server listening on port {port}.")),
            _ => None,
        }
    }

    /// The path and query of the page's first connection, from the service's environment variable,
    /// if set.
    pub fn page_endpoint(self) -> Option<String> {
        match self {
            EchoService::Jmalloc => jmalloc::page_endpoint(),
            _ => None,
        }
    }

    /// Defaults of flags for this service, from its own defaults and environment variables: field
    /// name and value.
    pub fn defaults(self) -> Vec<(&'static str, String)> {
        match self {
            EchoService::Jmalloc => jmalloc::defaults(),
            EchoService::Lpinca => lpinca::defaults(),
            EchoService::Firewalk => vec![("listen", String::from("127.0.0.1:8080"))],
            EchoService::Httpbin => httpbin::defaults(),
            EchoService::Httparena => vec![("listen", String::from("0.0.0.0:8080"))],
        }
    }
}

/// An environment variable of the service; `None` if it is unset or empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The listen address: `host`, and the port from the environment variable `port_variable`. Default:
/// `port`.
fn listen(host: &str, port_variable: &str, port: &str) -> (&'static str, String) {
    let port = variable(port_variable).unwrap_or_else(|| port.to_owned());
    ("listen", format!("{host}:{port}"))
}

/// Adds the probe for `frameloop healthcheck`.
fn health(router: Router) -> Router {
    router.probe("/healthz", |_| Page::text("ok"))
}

/// Closes a connection after a time, unless the returned task is dropped before.
fn close_later(peer: Peer, after: Duration, code: CloseCode) -> JoinSet<()> {
    let mut task = JoinSet::new();
    task.spawn(async move {
        sleep(after).await;
        peer.close(CloseFrame { code, reason: "" });
    });
    task
}

/// The path and the query of a request.
fn target(request: &Request<'_>) -> String {
    let query = request.query().map(|query| format!("?{query}"));
    format!("{}{}", request.path(), query.unwrap_or_default())
}

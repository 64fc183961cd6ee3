//! Stands in for the echo services that people use, so that what was written against one
//! of them runs against this server. One file for each service; where ours differs, it says so.

mod firewalk;
mod httparena;
mod httpbin;
mod jmalloc;
mod lpinca;

use crate::http::{Page, Router};

/// A service to stand in for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EchoService {
    /// jmalloc/echo-server: says who serves, then echoes, on any path.
    Jmalloc,
    /// websocket-echo.com, by lpinca: echoes on any path.
    Lpinca,
    /// Alamofire's Firewalk.
    Firewalk,
    /// `/websocket/echo` of go-httpbin.
    Httpbin,
    /// `/ws` as HttpArena's validator asks for it.
    Httparena,
}

impl EchoService {
    /// All, by the names that users give, and what they are.
    pub const ALL: [(&str, EchoService, &str); 5] = [
        (
            "jmalloc",
            EchoService::Jmalloc,
            "jmalloc/echo-server, also behind echo.websocket.org",
        ),
        (
            "lpinca",
            EchoService::Lpinca,
            "websocket-echo.com, which wscat's documentation names",
        ),
        (
            "firewalk",
            EchoService::Firewalk,
            "Alamofire's test server, /websocket and below",
        ),
        (
            "httpbin",
            EchoService::Httpbin,
            "go-httpbin's /websocket/echo",
        ),
        (
            "httparena",
            EchoService::Httparena,
            "/ws for HttpArena's validator and load",
        ),
    ];

    /// What is served in its stead. `page` is for browsers, where the service has one to try it.
    pub fn router(self, page: Page) -> Router {
        match self {
            EchoService::Jmalloc => jmalloc::router(page),
            EchoService::Lpinca => lpinca::router(),
            EchoService::Firewalk => firewalk::router(),
            EchoService::Httpbin => httpbin::router(),
            EchoService::Httparena => httparena::router(),
        }
    }

    /// The service's own environment variables that the default of a flag comes from.
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

    /// Tells whether its own environment variables can be read, those that are no flag's default:
    /// what is to be written instead, if not.
    pub fn check_variables(self) -> Result<(), String> {
        match self {
            EchoService::Httpbin => httpbin::check_variables(),
            _ => Ok(()),
        }
    }

    /// What it says when it listens on this port, if anything.
    pub fn announcement(self, port: u16) -> Option<String> {
        match self {
            EchoService::Jmalloc => Some(format!("Echo server listening on port {port}.")),
            _ => None,
        }
    }

    /// Where the page connects to first, if the service has a variable for it that is set: what
    /// follows this server's address.
    pub fn page_endpoint(self) -> Option<String> {
        match self {
            EchoService::Jmalloc => jmalloc::page_endpoint(),
            _ => None,
        }
    }

    /// The flags that are by default what the service does, or what its own environment variables
    /// ask of it, by the names of their fields.
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

/// One of the service's own environment variables; one that is empty counts as not set.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The address to listen on: the host, and the port that the variable asks for.
fn listen(host: &str, port_variable: &str, port: &str) -> (&'static str, String) {
    let port = variable(port_variable).unwrap_or_else(|| port.to_owned());
    ("listen", format!("{host}:{port}"))
}

/// What asks `frameloop healthcheck`.
fn health(router: Router) -> Router {
    router.probe("/healthz", |_| Page::text("ok"))
}

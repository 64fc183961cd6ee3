//! The service that the router mounts: what goes to the engine, and within which limits.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::request::Parts;
use http::{
    Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
};
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Incoming;
use tokio::runtime::Handle;

use super::first_ping::Transport;
use super::sessions::Sessions;
use super::{Settings, first_ping};
use crate::http::{Admission, Adopt, Answering, Body, BodyLimits, Mount, Refusal, Reply};

/// Socket.IO, or another protocol on Engine.IO, as the router mounts it.
pub struct Service {
    engine: Arc<dyn Engine>,
    settings: Settings,
    sessions: Sessions,
    /// The sessions whose transport a WebSocket is taking over, or has.
    upgrades: Arc<Mutex<HashSet<String>>>,
}

/// What keeps the sessions and speaks Engine.IO 4.
pub trait Engine: Send + Sync + 'static {
    /// Answers a request of polling.
    fn ask(&self, request: Request<Full<Bytes>>) -> Answering<Response<Full<Bytes>>>;

    /// Takes a WebSocket, whose request is in order.
    fn adopt(&self, stream: Transport, request: Request<()>);

    /// Ends all sessions.
    fn close(&self) -> Answering<()>;
}

impl Service {
    /// A service of sessions that `engine` keeps, within these settings.
    pub fn new(engine: impl Engine, settings: Settings) -> Service {
        Service {
            engine: Arc::new(engine),
            sessions: Sessions::new(settings.max_sessions),
            settings,
            upgrades: Arc::default(),
        }
    }

    /// How many sessions there are, of both transports.
    pub fn sessions(&self) -> usize {
        self.sessions.count()
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (mut head, body) = request.into_parts();
        let query = Query::of(&head.uri);
        if query.transport == Some("websocket") {
            return error(3, "Bad request"); // it does not ask for an upgrade
        }
        let mut session = None;
        if let Some(sid) = query.sid {
            let Some((engine_id, place)) = self.sessions.find(sid) else {
                return unknown_session();
            };
            let transport = query.transport.unwrap_or_default();
            head.uri = target(&head.uri, transport, Some(&engine_id));
            session = Some(place);
        }
        match head.method {
            Method::GET if session.is_none() => self.open(head).await,
            Method::GET => {
                let request = Request::from_parts(head, Full::default());
                self.engine.ask(request).await
            }
            Method::POST => {
                let body = match self.body(body, &head.extensions).await {
                    Ok(body) => body,
                    Err(refused) => {
                        end_session(&*self.engine, &head.uri).await;
                        return status(refused);
                    }
                };
                let uri = head.uri.clone();
                let request = Request::from_parts(head, Full::new(body.bytes.clone()));
                let answer = self.engine.ask(request).await;
                until_handled().await;
                if session.is_some_and(|session| session.is_ending()) {
                    end_session(&*self.engine, &uri).await;
                }
                answer
            }
            Method::OPTIONS => status(StatusCode::OK),
            _ => error(2, "Bad handshake method"),
        }
    }

    /// Opens a session of polling.
    async fn open(&self, mut head: Parts) -> Response<Full<Bytes>> {
        let Some(place) = self.sessions.place() else {
            return unavailable();
        };
        head.extensions.insert(place.clone());
        let uri = head.uri.clone();
        let request = Request::from_parts(head, Full::default());
        let (mut head, body) = self.engine.ask(request).await.into_parts();
        let Ok(open) = body.collect().await.map(Collected::to_bytes);
        let Some((before, sid, after)) = opened_session(&open) else {
            return Response::from_parts(head, Full::new(open));
        };
        first_ping::answer_polled(&*self.engine, &target(&uri, "polling", Some(sid))).await;
        let told = [before, place.tell(sid), after].concat();
        head.headers.remove(header::CONTENT_LENGTH); // that of another id
        Response::from_parts(head, Full::from(told))
    }

    /// The whole body of a POST.
    async fn body(&self, body: Incoming, extensions: &Extensions) -> Result<Body, StatusCode> {
        let limits = BodyLimits {
            max_size: self.settings.max_payload,
            timeout: self.settings.body_timeout,
        };
        let body = limits.read(body, extensions).await?;
        let separators = body.bytes.iter().filter(|byte| **byte == SEPARATOR);
        if separators.count() >= self.settings.max_packets {
            return Err(StatusCode::BAD_REQUEST);
        }
        Ok(body)
    }

    async fn adoption(&self, mut request: Request<()>) -> Result<Adopt, Refusal> {
        let engine = Arc::clone(&self.engine);
        let query = Query::of(request.uri());
        if query.version != Some("4") {
            return Err(Box::new(error(5, "Unsupported protocol version")));
        }
        if query.transport != Some("websocket") {
            return Err(Box::new(error(0, "Transport unknown")));
        }
        let Some(sid) = query.sid else {
            let place = self.sessions.place();
            let place = place.ok_or_else(|| Box::new(unavailable()))?;
            request.extensions_mut().insert(place.clone());
            return Ok(Box::new(move |stream| {
                engine.adopt(Transport::first(stream, place), request)
            }));
        };
        let session = self.sessions.find(sid);
        let (engine_id, place) = session.ok_or_else(|| Box::new(unknown_session()))?;
        *request.uri_mut() = target(request.uri(), "websocket", Some(&engine_id));
        let upgrade = Upgrade::begin(&self.upgrades, &engine_id, &engine, request.uri());
        let Some(upgrade) = upgrade else {
            // A second WebSocket of a session is closed at once, and the first undisturbed.
            return Ok(Box::new(drop));
        };
        // An empty POST does nothing, and tells whether there is such a session that polls.
        let probe = post(request.uri(), Bytes::new());
        let known = engine.ask(probe).await;
        if known.status() != StatusCode::OK {
            return Err(Box::new(numbered(known).await));
        }
        Ok(Box::new(move |stream| {
            engine.adopt(Transport::later(stream.holding(upgrade), place), request)
        }))
    }
}

impl Mount for Service {
    fn respond(self: Arc<Self>, request: Request<Incoming>) -> Answering<Reply> {
        Box::pin(async move {
            let (asked, body) = request.into_parts();
            let sharing = sharing(&asked);
            let mut response = numbered(self.answer(Request::from_parts(asked, body)).await).await;
            response.headers_mut().extend(sharing);
            response.into()
        })
    }

    fn preflight(&self, request: &Parts) -> Response<Full<Bytes>> {
        let mut response = status(StatusCode::OK);
        response.headers_mut().extend(sharing(request));
        response
    }

    fn upgrade(self: Arc<Self>, request: Request<()>) -> Answering<Result<Adopt, Refusal>> {
        Box::pin(async move { self.adoption(request).await })
    }

    fn close(self: Arc<Self>) -> Answering<()> {
        Box::pin(async move { self.engine.close().await })
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Service")
            .field("settings", &self.settings)
            .field("sessions", &self.sessions)
            .finish_non_exhaustive()
    }
}

/// What separates the packets in a body of polling (Engine.IO 4).
const SEPARATOR: u8 = 0x1e;

const METHODS: &str = "OPTIONS, GET, POST";

/// Lets pages of a request's origin read the response (Fetch §3.2), and, where the policy lists that
/// origin, send what the browser keeps for this server. Whether it may connect has been checked.
fn sharing(request: &Parts) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some(origin) = request.headers.get(header::ORIGIN) else {
        return headers;
    };
    let constant = HeaderValue::from_static;
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(header::VARY, constant("Origin"));
    if request
        .extensions
        .get::<Admission>()
        .is_some_and(|admission| admission.is_trusted)
    {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, constant("true"));
    }
    if request.method == Method::OPTIONS {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, constant(METHODS));
        if let Some(fields) = request.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, fields.clone());
        }
    }
    headers
}

/// Waits until the handlers of what has just been received have begun. The next POST may come to
/// another worker, and its handlers are not to begin before these.
async fn until_handled() {
    // Tasks of a worker begin in the order in which they were spawned. A CONNECT is one that spawns
    // another, the handler.
    for _ in 0..2 {
        // It does nothing that could fail.
        let _ = tokio::spawn(async {}).await;
    }
}

/// Ends the session of a request, as if its client had asked for it; if it has a WebSocket by now,
/// or has ended, nothing happens.
async fn end_session(engine: &dyn Engine, uri: &Uri) {
    const CLOSE: Bytes = Bytes::from_static(b"1");
    engine.ask(post(uri, CLOSE)).await;
}

/// A POST of polling to the session of `uri`.
pub(super) fn post(uri: &Uri, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = get(uri);
    *request.method_mut() = Method::POST;
    *request.body_mut() = Full::new(body);
    request
}

/// A GET of polling to the session of `uri`.
pub(super) fn get(uri: &Uri) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = target(uri, "polling", Query::of(uri).sid);
    request
}

/// The same, but by that transport and to that session.
fn target(uri: &Uri, transport: &str, sid: Option<&str>) -> Uri {
    let version = Query::of(uri).version.unwrap_or_default();
    let sid = sid.map(|sid| format!("&sid={sid}")).unwrap_or_default();
    let target = format!("{}?EIO={version}&transport={transport}{sid}", uri.path());
    // All of it comes from a target, or from the engine.
    target.parse().unwrap_or_else(|_| uri.clone())
}

/// The session that an open packet tells of, amid what is before and after it.
pub(super) fn opened_session(open: &[u8]) -> Option<(&str, &str, &str)> {
    const NAME: &str = r#""sid":""#;
    let open = std::str::from_utf8(open).ok()?;
    let (before, rest) = open.split_at(open.find(NAME)? + NAME.len());
    let (sid, after) = rest.split_at(rest.find('"')?);
    Some((before, sid, after))
}

/// What the engine wants to know of a request's query.
pub(super) struct Query<'a> {
    version: Option<&'a str>,
    transport: Option<&'a str>,
    pub(super) sid: Option<&'a str>,
}

impl<'a> Query<'a> {
    pub(super) fn of(uri: &'a Uri) -> Query<'a> {
        let find = |name: &str| {
            let mut parameters = uri.query().unwrap_or_default().split('&');
            parameters.find_map(|parameter| parameter.strip_prefix(name))
        };
        Query {
            version: find("EIO="),
            transport: find("transport="),
            sid: find("sid="),
        }
    }
}

/// A WebSocket that takes a session's transport over. However it ends, if the session still polls
/// then, it ends, too: the engine would keep it for ever.
struct Upgrade {
    upgrades: Arc<Mutex<HashSet<String>>>,
    sid: String,
    engine: Arc<dyn Engine>,
    uri: Uri,
}

impl Upgrade {
    /// `None` if there is another of that session.
    fn begin(
        upgrades: &Arc<Mutex<HashSet<String>>>,
        sid: &str,
        engine: &Arc<dyn Engine>,
        uri: &Uri,
    ) -> Option<Upgrade> {
        let is_first = lock(upgrades).insert(sid.to_owned());
        is_first.then(|| Upgrade {
            upgrades: Arc::clone(upgrades),
            sid: sid.to_owned(),
            engine: Arc::clone(engine),
            uri: uri.clone(),
        })
    }
}

impl Drop for Upgrade {
    fn drop(&mut self) {
        lock(&self.upgrades).remove(&self.sid);
        // Without a runtime the server is gone, and the session with it.
        if let Ok(runtime) = Handle::try_current() {
            let (engine, uri) = (Arc::clone(&self.engine), self.uri.clone());
            runtime.spawn(async move { end_session(&*engine, &uri).await });
        }
    }
}

/// A poisoned lock is taken all the same: the set is whole between any two statements.
fn lock(upgrades: &Mutex<HashSet<String>>) -> MutexGuard<'_, HashSet<String>> {
    upgrades.lock().unwrap_or_else(PoisonError::into_inner)
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn unknown_session() -> Response<Full<Bytes>> {
    error(1, "Session ID unknown")
}

fn unavailable() -> Response<Full<Bytes>> {
    let mut response = status(StatusCode::SERVICE_UNAVAILABLE);
    let seconds = HeaderValue::from_static("1");
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}

/// A refusal of the engine with its code as a number, where it writes a text: JavaScript's clients
/// compare numbers.
async fn numbered(response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    const CODE: &[u8] = br#"{"code":""#;
    if response.status() != StatusCode::BAD_REQUEST {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let Ok(body) = body.collect().await.map(Collected::to_bytes);
    let body = match body.strip_prefix(CODE) {
        Some([code, b'"', rest @ ..]) => {
            head.headers.remove(header::CONTENT_LENGTH); // that of the text
            Bytes::from([&CODE[..CODE.len() - 1], &[*code], rest].concat())
        }
        _ => body,
    };
    Response::from_parts(head, Full::new(body))
}

/// A refusal as Engine.IO's servers word it, with its code.
fn error(code: u8, message: &str) -> Response<Full<Bytes>> {
    let body = format!(r#"{{"code":{code},"message":"{message}"}}"#);
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

//! Engine.IO over HTTP: a session's requests and their limits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Extensions, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use tokio::time::{sleep, timeout};

use super::errors::{DisconnectReason, RequestError};
use super::packet::SEPARATOR;
use super::session::{PollingMethod, RunningRequest, Service, Session};
use super::websocket::{self, SessionSocket};
use crate::engine::for_socketio::Turn;
use crate::engine::{Handler, PeerAddress};
use crate::handshake::{HandshakeError, query};
use crate::http::{
    BodyLimits, BoxFuture, Endpoint, NestedService, Page, ServiceResponse, cors_headers,
};
use crate::log;

/// The methods that pages of other origins may use.
const METHODS: &str = "OPTIONS, GET, POST";

trait RequestBody: Body<Data = Bytes> + Unpin {}

impl<B: Body<Data = Bytes> + Unpin> RequestBody for B {}

type FullResponse = Response<Full<Bytes>>;

type Answer = Result<FullResponse, RequestError>;

impl Service {
    async fn answer(self: &Arc<Self>, head: Parts, body: impl RequestBody) -> FullResponse {
        let answered = self.try_answer(head, body).await;
        answered.unwrap_or_else(|error| error.page().into_response())
    }

    async fn try_answer(self: &Arc<Self>, head: Parts, body: impl RequestBody) -> Answer {
        if head.method == Method::OPTIONS {
            return Ok(status(StatusCode::OK));
        }
        let query = head.uri.query().unwrap_or_default();
        let session = match self.session_of(query, "polling") {
            Err(RequestError::BAD_VERSION) if head.method != Method::GET => None,
            session => session?,
        };
        match (&head.method, session) {
            (&Method::GET, None) => Ok(self.open_polling(&head)),
            (&Method::GET, Some(session)) => {
                let request = RunningRequest::begin(&session, PollingMethod::Get)?;
                Ok(text(request.body().await))
            }
            (&Method::POST, Some(session)) => post(&session, body, &head.extensions).await,
            _ => Err(RequestError::BAD_METHOD),
        }
    }

    /// Returns the session that the query of a request names; `None` if the request asks for a new
    /// session.
    pub(super) fn session_of(
        &self,
        query: &str,
        transport: &str,
    ) -> Result<Option<Arc<Session>>, RequestError> {
        let parameter = |name| query::parameter(query, name);
        match parameter("transport").as_deref() {
            Some(named) if named == transport => {}
            Some("polling" | "websocket") => return Err(RequestError::BAD_REQUEST),
            _ => return Err(RequestError::TRANSPORT_UNKNOWN),
        }
        match parameter("sid") {
            Some(sid) => {
                let session = self.session_named(&sid);
                session.map(Some).ok_or(RequestError::UNKNOWN_SESSION)
            }
            None if parameter("EIO").as_deref() == Some("4") => Ok(None),
            None => Err(RequestError::BAD_VERSION),
        }
    }

    /// Answers a polling request that did not come by HTTP, for tests.
    #[doc(hidden)]
    pub async fn simulate(self: Arc<Self>, request: Request<Vec<u8>>) -> (StatusCode, Vec<u8>) {
        let (head, body) = request.into_parts();
        let response = self.answer(head, Full::new(Bytes::from(body))).await;
        let status = response.status();
        let body = response.into_body().collect().await.unwrap_or_default();
        (status, body.to_bytes().into())
    }

    /// The handler of a WebSocket that did not come by HTTP, for tests. `None` if the request is
    /// refused.
    #[doc(hidden)]
    pub fn simulate_websocket(self: &Arc<Self>, query: &str) -> Option<impl Handler> {
        SessionSocket::new(self, query, PeerAddress::Unix)
    }

    /// Opens a polling session.
    fn open_polling(self: &Arc<Self>, head: &Parts) -> FullResponse {
        let address = head.extensions.get().copied().unwrap_or(PeerAddress::Unix);
        let Some(session) = self.open(address, head.extensions.get()) else {
            log::refused(HandshakeError::AtCapacity, head, address);
            return HandshakeError::AtCapacity.response().map(Full::from);
        };
        text(session.open_packet(r#""websocket""#))
    }
}

impl NestedService for Service {
    fn respond(self: Arc<Self>, request: Request<Incoming>) -> BoxFuture<ServiceResponse> {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let cors = cors_headers(&head, METHODS);
            let mut response = self.answer(head, body).await;
            response.headers_mut().extend(cors);
            response.into()
        })
    }

    fn preflight(&self, request: &Parts) -> FullResponse {
        let mut response = status(StatusCode::OK);
        *response.headers_mut() = cors_headers(request, METHODS);
        response
    }

    fn endpoint(self: Arc<Self>) -> Option<Endpoint> {
        Some(websocket::endpoint(&self))
    }

    fn close(self: Arc<Self>) -> BoxFuture<()> {
        Box::pin(async move { self.end() })
    }
}

/// Handles the packets of a POST in order.
async fn post(session: &Arc<Session>, body: impl RequestBody, extensions: &Extensions) -> Answer {
    let request = RunningRequest::begin(session, PollingMethod::Post)?;
    // A client with a full queue must fetch its packets before the server reads the body.
    request.ready().await?;
    Ok(match receive(session, &request, body, extensions).await {
        Ok(()) => text("ok".into()),
        Err(refused) => {
            session.end(DisconnectReason::ParseError);
            status(refused)
        }
    })
}

async fn receive(
    session: &Arc<Session>,
    request: &RunningRequest,
    body: impl RequestBody,
    extensions: &Extensions,
) -> Result<(), StatusCode> {
    /// How long a Close packet in a POST waits for the first GET of the client.
    const CROSSING: Duration = Duration::from_millis(20);
    let settings = &session.service.settings;
    let limits = BodyLimits {
        max_size: settings.max_payload,
        timeout: settings.body_timeout,
    };
    let body = limits.read(body, extensions).await?;
    let body = str::from_utf8(&body.bytes).map_err(|_| StatusCode::BAD_REQUEST)?;
    if body.split(SEPARATOR).count() > settings.max_packets {
        return Err(StatusCode::BAD_REQUEST);
    }
    let mut turn = Turn::new();
    for packet in body.split(SEPARATOR) {
        let wait = request.spend(packet.len());
        let wait = wait.ok_or(StatusCode::TOO_MANY_REQUESTS)?;
        if !wait.is_zero() {
            sleep(wait).await;
        }
        if packet == "1" {
            // The GET and this POST may cross. After the Close, a GET would find no session.
            let _ = timeout(CROSSING, request.polled()).await;
        } else {
            request.ready().await.or(Err(StatusCode::BAD_REQUEST))?;
        }
        session
            .receive(packet, true)
            .or(Err(StatusCode::BAD_REQUEST))?;
        turn.share().await;
    }
    Ok(())
}

fn text(body: String) -> FullResponse {
    Page::text(body)
        .with_content_type("text/plain; charset=UTF-8")
        .into_response()
}

fn status(status: StatusCode) -> FullResponse {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

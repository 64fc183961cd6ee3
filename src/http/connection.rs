//! Serves one accepted stream, from its first byte until the frame loop takes it over or it ends.

use std::fmt::Display;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout_at;

use super::context::HttpContext;
use super::h2c;
use super::limited::IpSlot;
use super::linger::linger;
use super::mount::Upgraded;
use super::service::{AcceptedUpgrade, HttpService, PendingUpgrade, UpgradeTarget, is_trusted};
use super::tls::FirstBytes;
use super::waiting::{HttpPhase, PhaseClock, PhaseProgress, Witness};
use super::{HttpStream, Stage};
use crate::engine::Observer;
use crate::log;

/// How long a new connection has to send its request while the server ends: the request may be in
/// transit.
const PATIENCE: Duration = Duration::from_millis(100);

/// Serves requests until one opens a WebSocket, then hands the connection over to the frame loop.
/// Reports each phase to `place`. `place` is dropped before the frame loop reserves its own place
/// for the connection, or when the connection ends.
pub(crate) async fn serve_connection(
    stream: HttpStream,
    context: Rc<HttpContext>,
    place: impl Witness,
) {
    let deadline = context
        .head_timeout()
        .map(|timeout| Instant::now() + timeout);
    let prepared = match context.proxies.is_empty() && context.tls.is_none() {
        true => Some(stream),
        // Boxed, because it would be most of this future.
        false => Box::pin(prepared(stream, deadline, &context, &place)).await,
    };
    let Some(stream) = prepared else {
        return;
    };
    let stream = stream.with_write_stall(context.settings.deadlines.write_stall);
    let service = HttpService {
        context: Rc::clone(&context),
        pending_upgrade: PendingUpgrade::default(),
        peer: stream.peer(),
        progress: stream.progress().clone(),
    };
    let http = http1_builder(&context, deadline, service.progress.clone());
    let mut connection = http.serve_connection(TokioIo::new(stream), service.clone());
    let served = until_upgrade(&mut connection, &service, &place).await;
    let parts = connection.into_parts();
    let stream = parts.io.into_inner();
    match served {
        Ok(Some(accepted)) if !stream.is_blocked() => {
            hand_over(stream, parts.read_buf, accepted, &context, place);
        }
        // The client pipelined requests and did not read the responses, which hyper still holds.
        Ok(Some(_)) => {}
        Err(error) if error.is_parse_version_h2() && context.router.speaks_h2c() => {
            hand_over_to_h2c(stream, parts.read_buf, &context, place).await;
        }
        // After a close by FIN, the kernel would go on sending bytes that the client does not read.
        Err(_) if stream.is_blocked() => stream.abort(),
        ended => {
            if let Err(error) = ended {
                log::bad_request(&error);
            }
            linger(stream, &context).await;
        }
    }
}

/// Serves requests until the connection ends, or until one opens a WebSocket.
async fn until_upgrade(
    connection: &mut http1::Connection<TokioIo<HttpStream>, HttpService>,
    service: &HttpService,
    place: &impl Witness,
) -> hyper::Result<Option<AcceptedUpgrade>> {
    let began = Instant::now();
    let mut ending = pin!(async {
        service.context.shutdown.reached(Stage::Ending).await;
        // A client that has just connected may be about to send its request.
        tokio::time::sleep_until((began + PATIENCE).into()).await;
        // Gives the runtime time to find out whether a new socket has input.
        tokio::task::yield_now().await;
    });
    let mut ends = false;
    poll_fn(|context| {
        loop {
            let served = connection.poll_without_shutdown(context);
            if let Some(accepted) = service.pending_upgrade.take() {
                return Poll::Ready(Ok(Some(accepted)));
            }
            if served.is_pending() && !ends && ending.as_mut().poll(context).is_ready() {
                ends = true;
                Pin::new(&mut *connection).graceful_shutdown();
                continue;
            }
            place.moved(service.progress.phase());
            return served.map_ok(|()| None);
        }
    })
    .await
}

/// Configures hyper for a connection whose first request head has the deadline `first_head`.
fn http1_builder(
    context: &HttpContext,
    first_head: Option<Instant>,
    progress: PhaseProgress,
) -> http1::Builder {
    let clock = PhaseClock {
        progress,
        first: first_head,
        shared: Arc::clone(&context.shared),
    };
    let mut builder = http1::Builder::new();
    builder
        .timer(clock)
        // Zero, as `PhaseClock` says; without a duration hyper would not ask the clock.
        .header_read_timeout(Duration::ZERO)
        .max_headers(context.http.max_headers)
        .max_header_size(context.http.max_head_size)
        // hyper's minimum is 8 KiB. Bound: with the parsed head and hyper's own state, 64 KiB for
        // each client whose request is not read (`tests/memory/http_bodies.rs`).
        .max_buf_size(context.http.max_head_size.max(8 << 10))
        .title_case_headers(true)
        .auto_date_header(context.http.date)
        // Without this, hyper drops the response if it reads the client's FIN first.
        .half_close(true);
    builder
}

/// Reads the PROXY header and does the TLS handshake, if they are configured. The deadline covers
/// both and the first request head.
async fn prepared(
    mut stream: HttpStream,
    deadline: Option<Instant>,
    context: &HttpContext,
    place: &impl Witness,
) -> Option<HttpStream> {
    if !context.proxies.is_empty() {
        let proxied = in_time(deadline, stream.proxied(&context.proxies)).await?;
        // The peer may be anybody: it gets no answer.
        proxied.inspect_err(log::not_proxied).ok()?;
    }
    let Some(config) = &context.tls else {
        return Some(stream);
    };
    let first = FirstBytes::default();
    let secured = {
        let mut securing = pin!(stream.secure(config, &first));
        let securing = poll_fn(|context| {
            let secured = securing.as_mut().poll(context);
            place.moved(match secured.is_pending() && first.is_empty() {
                true => HttpPhase::Silent,
                false => HttpPhase::Head,
            });
            secured
        });
        in_time(deadline, securing).await
    };
    let failed = |why: &dyn Display| {
        log::not_secured(&why, &first, first.is_empty(), &stream.peer());
    };
    match secured {
        Some(Ok(())) => Some(stream),
        Some(Err(error)) => {
            failed(&error);
            linger(stream, context).await;
            None
        }
        None => {
            failed(&"it took too long");
            None
        }
    }
}

/// Returns the future's output. `None` if the deadline passes before it.
async fn in_time<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline.into(), future).await.ok(),
        None => Some(future.await),
    }
}

/// Gives a WebSocket's stream and its early input to its owner.
fn hand_over(
    stream: HttpStream,
    early: Bytes,
    accepted: AcceptedUpgrade,
    context: &HttpContext,
    place: impl Sized,
) {
    let response = encode(&accepted.response);
    let stream = stream.with_peer(accepted.client);
    match accepted.owner {
        UpgradeTarget::FrameLoop(connection, endpoint) => {
            let mut early = Vec::from(early);
            let adopted = stream.into_socket(&mut early).and_then(|socket| {
                // Before the 101 is sent, so that a client that has it is counted only once.
                drop(place);
                let frame_loop = &context.frame_loop;
                frame_loop.adopt(socket, connection, endpoint, &response, &mut early)
            });
            if let Err(error) = adopted {
                log::not_adopted(&error);
            }
        }
        UpgradeTarget::Mount(adopt, address_place) => {
            let head = response.into();
            adopt(upgraded(stream, head, early, address_place, context, place));
        }
    }
}

/// Counts a stream as a WebSocket, before it gives up its place as an HTTP connection.
fn upgraded(
    stream: HttpStream,
    head: Bytes,
    early: Bytes,
    address_place: Option<IpSlot>,
    context: &HttpContext,
    place: impl Sized,
) -> Upgraded {
    context.observer.mounted(1);
    let counted = CountedWebSocket(Arc::clone(&context.observer));
    drop(place);
    let shared = Arc::clone(&context.shared);
    Upgraded::new(
        stream,
        head,
        early,
        Box::new((counted, address_place)),
        shared,
    )
}

/// Gives the stream of a client that begins with HTTP/2 to [`h2c`]. The stream counts as a
/// WebSocket, because it may last as long.
async fn hand_over_to_h2c(
    stream: HttpStream,
    early: Bytes,
    context: &HttpContext,
    place: impl Sized,
) {
    let peer = stream.peer();
    let admitted = match is_trusted(peer, &context.policy) {
        // A proxy's connection has requests of many clients, so its address has no limit.
        true => context.admit().map(|()| None),
        false => context.admit_from(peer),
    };
    let Ok(address_place) = admitted else {
        return linger(stream, context).await;
    };
    let stream = upgraded(stream, Bytes::new(), early, address_place, context, place);
    tokio::spawn(h2c::serve(stream, peer, Arc::clone(&context.shared)));
}

/// Counts a stream outside the frame loop as a WebSocket.
struct CountedWebSocket(Arc<dyn Observer>);

impl Drop for CountedWebSocket {
    fn drop(&mut self) {
        self.0.mounted(-1);
    }
}

/// Encodes a response's head. Field names are spelled as in RFC 6455, because some clients compare
/// bytes: `Sec-WebSocket-Accept`, where title case would be `Sec-Websocket-Accept`.
fn encode(response: &Response<()>) -> Vec<u8> {
    /// Room for most heads: what grows is copied.
    const USUAL_SIZE: usize = 256;
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut bytes = Vec::with_capacity(USUAL_SIZE);
    for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
        bytes.extend_from_slice(part.as_bytes());
    }
    for (name, value) in response.headers() {
        for part in name.as_str().split_inclusive('-') {
            let begin = bytes.len();
            bytes.extend_from_slice(match part {
                "websocket-" => b"WebSocket-",
                part => part.as_bytes(),
            });
            bytes[begin..=begin].make_ascii_uppercase();
        }
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

//! One accepted stream, from its first octet to the frame loop or to its end.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::service::HttpService;
use super::{HttpSettings, Router, Stream};
use crate::engine::{FrameLoopHandle, Settings};
use crate::handshake::{HandshakeError, Policy};
use crate::log;

/// What a worker serves, and how.
pub(crate) struct Site {
    pub(crate) router: Arc<Router>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) settings: Settings,
    pub(crate) http: HttpSettings,
    pub(crate) frame_loop: FrameLoopHandle,
    /// Whether one more WebSocket may be opened.
    pub(crate) admission: Box<dyn Fn() -> Result<(), HandshakeError>>,
}

/// Serves requests until one of them becomes a WebSocket, and hands that over to the frame loop.
pub(crate) async fn serve_connection(stream: Stream, site: Rc<Site>) {
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(site.http.head_timeout)
        .max_headers(site.http.max_headers)
        .max_header_size(site.http.max_head_size)
        // hyper takes no smaller buffer than this.
        .max_buf_size(site.http.max_head_size.max(8 << 10))
        .title_case_headers(true)
        // Else hyper drops the response to a client that has sent FIN, if it reads that first.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), HttpService::new(Rc::clone(&site)));
    let served = poll_fn(|context| connection.poll_without_shutdown(context)).await;
    if let Err(error) = &served {
        log::bad_request(error);
    }
    let parts = connection.into_parts();
    let stream = parts.io.into_inner();
    match (served, parts.service.into_accepted()) {
        (Ok(()), Some(connection)) => match stream.into_socket() {
            Ok(socket) => site
                .frame_loop
                .adopt(socket, connection, parts.read_buf.into()),
            Err(error) => log::not_adopted(&error),
        },
        _ => linger(stream, site.settings.deadlines.linger).await,
    }
}

/// Sends FIN and reads on until the client's, for a while: closing with unread input would reset
/// the connection, and the client would lose the response.
async fn linger(mut stream: Stream, deadline: Duration) {
    const MAX_OCTETS: usize = 1 << 20;
    let discard = async {
        stream.shutdown().await?;
        let mut scratch = [0; 4 << 10];
        let mut discarded = 0;
        while discarded < MAX_OCTETS {
            match stream.read(&mut scratch).await? {
                0 => break,
                octets => discarded += octets,
            }
        }
        Ok::<(), std::io::Error>(())
    };
    // Whether it ended well makes no difference: the stream is dropped.
    let _ = tokio::time::timeout(deadline, discard).await;
}

//! The first Ping of a session, answered in the client's place.
//!
//! Engine.IO's servers send the first Ping after pingInterval. The engine sends one at once, which
//! clients bear, but not those that look for one packet after the other, as the protocol's own test
//! suite does. An engine that keeps to the protocol is not disturbed.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::BodyExt;
use socketioxide::socket::Sid;
use tokio::io::{self, AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep, timeout};

use super::fan_out::FanOut;
use super::service::{Engine, get, post};
use super::session_stream::SessionStream;
use super::sessions::SessionPlace;
use crate::http::Upgraded;

/// Answers the Ping of a session of polling that has just been opened, if there is one.
pub(super) async fn answer_polled(engine: &dyn Engine, session: &Uri) {
    let poll = engine.ask(get(session));
    let Ok(polled) = timeout(AT_ONCE, poll).await else {
        return;
    };
    let Ok(packets) = polled.into_body().collect().await;
    if packets.to_bytes() == PING[2..] {
        engine.ask(post(session, Bytes::from_static(b"3"))).await;
    }
}

/// A frame with a Ping of Engine.IO, as a server sends it.
const PING: [u8; 3] = [0x81, 0x01, b'2'];

/// A frame with a Pong of Engine.IO, as a client sends it; the key zero masks nothing.
const PONG: [u8; 7] = [0x81, 0x81, 0, 0, 0, 0, b'3'];

/// How long the first Ping is waited for; it comes within two milliseconds.
const AT_ONCE: Duration = Duration::from_millis(200);

/// A WebSocket's stream as the engine sees it.
#[derive(Debug)]
pub struct Transport {
    stream: SessionStream,
    place: SessionPlace,
    first_ping: FirstPing,
    /// Who waits to read until it is known whether the first Ping comes at once.
    reader: Option<Waker>,
}

#[derive(Debug)]
enum FirstPing {
    /// Nothing is read before it, so that the Pong does not come amid a client's frame.
    Expected(Pin<Box<Sleep>>),
    /// The Pong is the next that is read.
    Answered,
    /// From here on the client's own are meant.
    Over,
}

impl Transport {
    /// That of a session that begins with it.
    pub(super) fn first(stream: Upgraded, place: SessionPlace) -> Transport {
        let first_ping = FirstPing::Expected(Box::pin(sleep(AT_ONCE)));
        Transport::new(stream, place, first_ping)
    }

    /// That of a session that polled before.
    pub(super) fn later(stream: Upgraded, place: SessionPlace) -> Transport {
        Transport::new(stream, place, FirstPing::Over)
    }

    fn new(stream: Upgraded, place: SessionPlace, first_ping: FirstPing) -> Transport {
        Transport {
            place,
            stream: SessionStream::new(stream),
            first_ping,
            reader: None,
        }
    }

    /// Lets broadcasts go past the engine. Without a `sid`, the engine is about to open a session.
    pub(super) fn enrol(&mut self, fan_out: &FanOut, sid: Option<Sid>) {
        self.stream.enrol(fan_out, sid);
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.place.is_ending() {
            return Poll::Ready(Ok(())); // as if the client had gone
        }
        match &mut this.first_ping {
            FirstPing::Expected(deadline) => {
                if deadline.as_mut().poll(context).is_pending() {
                    this.reader = Some(context.waker().clone());
                    return Poll::Pending;
                }
                this.first_ping = FirstPing::Over;
            }
            FirstPing::Answered if buffer.remaining() >= PONG.len() => {
                this.first_ping = FirstPing::Over;
                buffer.put_slice(&PONG);
                return Poll::Ready(Ok(()));
            }
            FirstPing::Answered | FirstPing::Over => this.first_ping = FirstPing::Over,
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if matches!(this.first_ping, FirstPing::Expected(_)) && octets.starts_with(&PING) {
            this.first_ping = FirstPing::Answered;
            if let Some(reader) = this.reader.take() {
                reader.wake();
            }
            return Poll::Ready(Ok(PING.len()));
        }
        Pin::new(&mut this.stream).poll_write(context, octets)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

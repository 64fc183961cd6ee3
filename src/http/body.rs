//! Bodies of requests and responses, within bounds.

use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body as HttpBody;
use tokio::time::{Instant, timeout_at};

use crate::engine::{Held, UnsentBudget};
use crate::protocol::{AssemblyBudget, Loan};

/// The limits of a request body.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Maximum bytes of a body; a larger body is refused with 413.
    pub max_size: usize,
    /// A body must deliver 16 KiB in each period of this length, or end; else it is refused with
    /// 408.
    pub timeout: Duration,
}

/// A whole body, with its share of the budget for received bytes.
#[derive(Debug)]
pub struct Body {
    /// The body's bytes.
    pub bytes: Bytes,
    _loan: Loan,
}

/// Bytes that a body must deliver within the timeout.
const PROGRESS: usize = 16 << 10;

impl BodyLimits {
    /// Reads a body into one buffer that grows with the received bytes, not with the number of
    /// chunks. The budget for received bytes is in the extensions of the body's request.
    ///
    /// # Errors
    /// The status of the refusal: 413 beyond `max_size`, 408 for a body that is too slow, 503 if
    /// the budget is spent, 400 for a body that breaks off.
    pub async fn read(
        self,
        mut body: impl HttpBody<Data = Bytes> + Unpin,
        extensions: &Extensions,
    ) -> Result<Body, StatusCode> {
        if body.size_hint().lower() > self.max_size as u64 {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let budget = extensions.get().cloned().unwrap_or_default();
        let mut loan = AssemblyBudget::loan(&budget);
        let mut bytes = Vec::new();
        let mut due = (Instant::now() + self.timeout, PROGRESS);
        loop {
            let data = match timeout_at(due.0, body.frame()).await {
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Ok(None) => break,
                Ok(Some(Err(_))) => return Err(StatusCode::BAD_REQUEST),
                Err(_) => return Err(StatusCode::REQUEST_TIMEOUT),
            };
            if data.len() > self.max_size - bytes.len() {
                return Err(StatusCode::PAYLOAD_TOO_LARGE);
            }
            let before = bytes.capacity();
            bytes.extend_from_slice(&data);
            if loan.extend(bytes.capacity() - before).is_err() {
                return Err(StatusCode::SERVICE_UNAVAILABLE);
            }
            if bytes.len() >= due.1 {
                due = (Instant::now() + self.timeout, bytes.len() + PROGRESS);
            }
        }
        Ok(Body {
            bytes: bytes.into(),
            _loan: loan,
        })
    }
}

/// Bytes of a response, which count in the unsent budget until they are dropped.
pub(super) struct CountedBytes {
    bytes: Bytes,
    _held: Held,
}

impl CountedBytes {
    pub(super) fn new(bytes: Bytes, unsent: &UnsentBudget) -> CountedBytes {
        CountedBytes {
            _held: Held::new(bytes.len(), unsent),
            bytes,
        }
    }
}

impl AsRef<[u8]> for CountedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

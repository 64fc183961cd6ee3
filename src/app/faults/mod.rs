//! Faults on demand. A client asks `/echo` for a server that is late, loses, repeats,
//! breaks the protocol or the connection, by parameters of the query or, as browsers cannot but
//! others can, by header fields: `?close_after=3` is `X-Echo-Close-After: 3`.
//!
//! Such a connection has a handler of its own, which takes over what the engine does by itself:
//! when it reads, when a Close goes out, how it ends. All else is the engine's as for any other
//! connection: limits, deadlines, budgets, counts and log lines. The plain echo pays nothing.

mod handler;
mod outgoing;
mod parameters;
mod timer;
mod violation;

use http::StatusCode;

use crate::http::{Endpoint, Page, Request};
use crate::protocol::SizeLimits;
use handler::Faulty;
use parameters::Faults;

/// Bytes of the largest message, if the client does not ask for another bound: its echo may be
/// several times as much in small fragments.
const MAX_MESSAGE_SIZE: usize = 1 << 20;

/// The endpoint of a request that asks for a fault. `seed` is for those that bring none; `None` is
/// a random one.
///
/// # Errors
/// 400 that names the parameter that is wrong and what it may be.
pub(crate) fn endpoint(request: &Request<'_>, seed: Option<u64>) -> Result<Option<Endpoint>, Page> {
    let faults = Faults::parse(request)
        .map_err(|error| Page::text(error.to_string()).with_status(StatusCode::BAD_REQUEST))?;
    Ok(faults.map(|faults| {
        let limits = SizeLimits {
            max_message_size: faults.max_message_size.unwrap_or(MAX_MESSAGE_SIZE),
            max_frame_size: usize::MAX,
        };
        let change = faults.invalid.and_then(violation::Violation::of_handshake);
        Endpoint::new(move |_| Faulty::new(faults.clone(), seed))
            .with_limits(move |_| limits)
            .uncompressed()
            .changing(change)
    }))
}

/// The parameters and the violations, as the page must explain them.
#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    let violations = violation::Violation::ALL.iter().map(|(name, _)| *name);
    parameters::NAMES.into_iter().chain(violations)
}

//! Faults on demand. A client of `/echo` can request delays, lost or repeated messages, protocol
//! violations and broken connections. It uses query parameters or headers: `?close_after=3` is the
//! same as `X-Echo-Close-After: 3`. Browsers cannot set headers.
//!
//! A connection with faults has its own handler, which decides when the engine reads, when it sends
//! a Close, and how the connection ends. Limits, deadlines, budgets, counts and log lines work as
//! for any other connection. The plain echo has no extra cost.

mod handler;
mod outgoing;
mod parameters;
mod timer;
mod violation;

use http::StatusCode;

use crate::http::{Endpoint, Page, Request};
use crate::log;
use crate::protocol::SizeLimits;
use handler::Faulty;
use parameters::{Faults, PARAMETERS};

/// Maximum size of a message, in bytes, unless the client requests a lower limit. Its echo takes
/// several times as much in small fragments.
const MAX_MESSAGE_SIZE: usize = 1 << 20;

/// The endpoint for a request that asks for faults; `None` if it asks for no faults. `seed` is used
/// for requests without a seed; with `None` their faults are random.
///
/// # Errors
/// A 400 page with the name of the invalid parameter and its valid values.
pub(crate) fn endpoint(request: &Request<'_>, seed: Option<u64>) -> Result<Option<Endpoint>, Page> {
    let mut names = request.query_params().map(|(name, _)| name);
    let is_known =
        |name: &str| name == "token" || PARAMETERS.iter().any(|(known, _)| *known == name);
    if let Some(name) = names.find(|name| !is_known(name)) {
        log::unknown_parameter(name);
    }
    let faults = Faults::parse(request)
        .map_err(|error| Page::text(error).with_status(StatusCode::BAD_REQUEST))?;
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

/// The names of all parameters and violations. The page must explain each of them.
#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = String> {
    let parameters = PARAMETERS.iter().map(|(name, _)| String::from(*name));
    parameters.chain(violation::Violation::names())
}

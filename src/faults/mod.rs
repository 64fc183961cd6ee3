//! Faults on demand. A client asks `/echo` for a server that is late, loses, repeats,
//! breaks the protocol or the connection, by parameters of the query or, as browsers cannot but
//! others can, by header fields: `?close_after=3` is `X-Echo-Close-After: 3`.
//!
//! Such a connection is a task that owns its stream: the frame loop and its echo know nothing of
//! faults and pay nothing for them. It keeps to the server's limits, deadlines and budget all the
//! same, and is counted with the others.

mod connection;
mod counted;
mod input;
mod outgoing;
mod parameters;
mod violation;

use crate::engine::Settings;
use crate::http::{Diversion, Page, Request};
use connection::Connection;
use http::StatusCode;
use parameters::Faults;

/// Takes the connections that ask for a fault. `seed` is for those that bring none; `None` is a
/// random one.
///
/// # Errors
/// 400 that names the parameter that is wrong and what it may be.
pub(crate) fn divert(
    request: &Request<'_>,
    settings: &Settings,
    seed: Option<u64>,
) -> Result<Option<Diversion>, Page> {
    let faults = Faults::parse(request.query(), request.headers())
        .map_err(|error| Page::text(error.to_string()).with_status(StatusCode::BAD_REQUEST))?;
    Ok(faults.map(|faults| {
        let settings = settings.clone();
        Diversion {
            change: faults.invalid.and_then(violation::Violation::of_handshake),
            adopt: Box::new(move |stream, endpoint| {
                let connection = Connection::new(faults, seed, &settings);
                tokio::spawn(connection::serve(connection, stream, endpoint));
            }),
        }
    }))
}

/// The parameters and the violations, as the page must explain them.
#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    let violations = violation::Violation::ALL.iter().map(|(name, _)| *name);
    parameters::NAMES.into_iter().chain(violations)
}

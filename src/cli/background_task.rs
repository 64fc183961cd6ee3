//! Tasks that flags need in addition to the server.

use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;

/// A task that never ends.
pub(super) type BackgroundTask = Pin<Box<dyn Future<Output = Infallible>>>;

/// A task that does nothing.
pub(super) fn nothing() -> BackgroundTask {
    Box::pin(pending())
}

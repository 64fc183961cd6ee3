//! What runs beside the server for its flags to hold.

use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;

/// It never ends.
pub(super) type BackgroundTask = Pin<Box<dyn Future<Output = Infallible>>>;

/// Nothing does.
pub(super) fn nothing() -> BackgroundTask {
    Box::pin(pending())
}

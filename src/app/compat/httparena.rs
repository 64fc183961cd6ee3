//! What HttpArena asks of `/ws`: text and binary echoed, a Close answered, 4xx without an upgrade.
//! Nothing differs from what its validator asks.

use crate::app::echo::Echo;
use crate::http::Router;

pub(super) fn router() -> Router {
    super::health(Router::new().websocket("/ws", |_| Echo))
}

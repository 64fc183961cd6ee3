//! HttpArena's `/ws`: echoes text and binary, answers a Close, and answers 4xx without an upgrade,
//! as its validator expects.

use crate::app::echo::Echo;
use crate::http::Router;

pub(super) fn router() -> Router {
    super::health(Router::new().websocket("/ws", |_| Echo))
}

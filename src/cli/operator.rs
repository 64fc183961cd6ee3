//! The pages for the operator.

use http::StatusCode;

use crate::http::{Page, Router};
use crate::metrics::Metrics;
use crate::server::Shutdown;

/// What those pages tell of.
pub(super) struct Operator {
    shutdown: Shutdown,
    pub(super) metrics: Metrics,
    /// Whether there is a page of them.
    has_metrics: bool,
}

impl Operator {
    pub(super) fn new(shutdown: Shutdown, has_metrics: bool) -> Operator {
        Operator {
            shutdown,
            metrics: Metrics::new(),
            has_metrics,
        }
    }

    /// Adds whether more clients should be sent here.
    pub(super) fn readiness(&self, router: Router) -> Router {
        let shutdown = self.shutdown.clone();
        router.probe("/readyz", move |_| match shutdown.is_draining() {
            false => Page::text("ready"),
            true => Page::text("draining").with_status(StatusCode::SERVICE_UNAVAILABLE),
        })
    }

    /// Adds the metrics, if there is a page of them.
    pub(super) fn metrics(&self, router: Router) -> Router {
        if !self.has_metrics {
            return router;
        }
        let metrics = self.metrics.clone();
        router.private_page("/metrics", move |_| {
            Page::text(metrics.text()).with_content_type(Metrics::CONTENT_TYPE)
        })
    }

    /// All that an address for the operator alone has.
    pub(super) fn router(&self) -> Router {
        let router = Router::new().probe("/healthz", |_| Page::text("ok"));
        self.metrics(self.readiness(router))
    }
}

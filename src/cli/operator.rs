//! The pages for the operator.

use http::StatusCode;

use crate::app::Description;
use crate::http::{Page, Router};
use crate::metrics::Metrics;
use crate::server::Shutdown;

/// The operator's pages, for the list of endpoints.
pub(super) const READYZ: Description =
    Description::page("/readyz", "200 'ready'; 503 while the server stops");
pub(super) const METRICS: Description = Description::page("/metrics", "figures for Prometheus");

/// The state that the operator's pages show.
pub(super) struct Operator {
    shutdown: Shutdown,
    pub(super) metrics: Metrics,
    /// Whether /metrics exists.
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

    /// Adds /readyz, which says whether the server should get more clients.
    pub(super) fn readiness(&self, router: Router) -> Router {
        let shutdown = self.shutdown.clone();
        router.probe("/readyz", move |_| match shutdown.is_draining() {
            false => Page::text("ready"),
            true => Page::text("draining").with_status(StatusCode::SERVICE_UNAVAILABLE),
        })
    }

    /// Adds /metrics, if it is switched on.
    pub(super) fn metrics(&self, router: Router) -> Router {
        if !self.has_metrics {
            return router;
        }
        let metrics = self.metrics.clone();
        router.private_page("/metrics", move |_| {
            Page::text(metrics.text()).with_content_type(Metrics::CONTENT_TYPE)
        })
    }

    /// The pages of an address that only the operator uses.
    pub(super) fn router(&self) -> Router {
        let router = Router::new().probe("/healthz", |_| Page::text("ok"));
        self.metrics(self.readiness(router))
    }
}

//! Responses that are not a WebSocket.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

/// A plain page: the answer to an ordinary GET.
#[derive(Clone, Debug)]
pub struct Page(Box<Response<Bytes>>);

impl Page {
    /// A page with status 200 and a plain text.
    pub fn text(body: impl Into<Bytes>) -> Page {
        Page(Box::new(Response::new(body.into()))).with_content_type("text/plain; charset=utf-8")
    }

    /// A page with status 200 and a script.
    pub fn script(body: impl Into<Bytes>) -> Page {
        Page::text(body).with_content_type("text/javascript; charset=utf-8")
    }

    /// Changes the content type.
    #[must_use]
    pub fn with_content_type(self, content_type: &'static str) -> Page {
        self.with(header::CONTENT_TYPE, content_type)
    }

    /// A page with status 200 and an HTML document, restricted by this Content-Security-Policy.
    pub fn html(body: impl Into<Bytes>, content_security_policy: &'static str) -> Page {
        Page::text(body)
            .with_content_type("text/html; charset=utf-8")
            .with(header::CONTENT_SECURITY_POLICY, content_security_policy)
    }

    /// Changes the status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Page {
        *self.0.status_mut() = status;
        self
    }

    /// The response to a request.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let page = self.with(header::CACHE_CONTROL, "no-store");
        page.0.map(Full::new)
    }

    fn with(mut self, field: HeaderName, value: &'static str) -> Page {
        let value = HeaderValue::from_static(value);
        self.0.headers_mut().insert(field, value);
        self
    }
}

/// Stops browsers from guessing another content type (Fetch §3.6).
pub(super) fn forbid_sniffing(headers: &mut HeaderMap) {
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
}

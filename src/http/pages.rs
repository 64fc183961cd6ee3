//! Responses that are not a WebSocket.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

/// A plain page: the answer to an ordinary GET.
#[derive(Clone, Debug)]
pub struct Page {
    status: StatusCode,
    content_type: &'static str,
    content_security_policy: Option<&'static str>,
    body: Bytes,
}

impl Page {
    /// A page with status 200 and a plain text.
    pub fn text(body: impl Into<Bytes>) -> Page {
        Page {
            status: StatusCode::OK,
            content_type: "text/plain; charset=utf-8",
            content_security_policy: None,
            body: body.into(),
        }
    }

    /// A page with status 200 and a script.
    pub fn script(body: impl Into<Bytes>) -> Page {
        Page {
            content_type: "text/javascript; charset=utf-8",
            ..Page::text(body)
        }
    }

    /// Changes the content type.
    #[must_use]
    pub fn with_content_type(mut self, content_type: &'static str) -> Page {
        self.content_type = content_type;
        self
    }

    /// A page with status 200 and an HTML document, restricted by this Content-Security-Policy.
    pub fn html(body: impl Into<Bytes>, content_security_policy: &'static str) -> Page {
        Page {
            content_type: "text/html; charset=utf-8",
            content_security_policy: Some(content_security_policy),
            ..Page::text(body)
        }
    }

    /// Changes the status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Page {
        self.status = status;
        self
    }

    /// The response to a request.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(self.content_type),
        );
        if let Some(policy) = self.content_security_policy {
            headers.insert(
                header::CONTENT_SECURITY_POLICY,
                HeaderValue::from_static(policy),
            );
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// Stops browsers from guessing another content type (Fetch §3.6).
pub(super) fn forbid_sniffing(headers: &mut HeaderMap) {
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
}

//! CORS: which responses pages of other origins may read.

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, header};

use super::Admission;

/// Returns the CORS headers of a response (Fetch §3.2), which allow pages of the request's origin
/// to read the response. If the policy lists the origin, the pages may also send credentials. The
/// server has already checked that the origin may connect. The response to a preflight lists
/// `methods`.
pub(crate) fn cors_headers(request: &Parts, methods: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some(origin) = request.headers.get(header::ORIGIN) else {
        return headers;
    };
    let constant = HeaderValue::from_static;
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(header::VARY, constant("Origin"));
    let admission = request.extensions.get::<Admission>();
    if admission.is_some_and(|admission| admission.is_trusted) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, constant("true"));
    }
    if request.method == Method::OPTIONS {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, constant(methods));
        if let Some(fields) = request.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, fields.clone());
        }
    }
    headers
}

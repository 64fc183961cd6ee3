//! The test page for browsers.

use bytes::Bytes;

use super::AppSettings;
use super::compat::EchoService;
use crate::http::Page;

const PAGE: &str = include_str!("page.html");

/// The page, without the sections of disabled features, and with the endpoint of its first
/// connection.
pub(super) fn for_browsers(settings: &AppSettings) -> Page {
    Page::html(document(settings), POLICY)
}

fn document(settings: &AppSettings) -> Bytes {
    let is_ours = settings.compat.is_none();
    let has_socketio = settings.has_socketio();
    let sections = [
        ("chat", is_ours),
        ("faults", is_ours && settings.faults),
        ("socketio", is_ours && has_socketio),
    ];
    let absent = sections.iter().filter(|(_, is_there)| !is_there);
    let mut document = absent.fold(PAGE.to_owned(), |document, (name, _)| {
        let section = format!("<section id=\"{name}\"");
        document.replace(&section, &format!("{section} hidden"))
    });
    let endpoint = settings.compat.and_then(EchoService::page_endpoint);
    if let Some(endpoint) = endpoint {
        const FIELD: &str = "<input id=\"url\"";
        let value = endpoint.replace('&', "&amp;").replace('"', "&quot;");
        document = document.replace(FIELD, &format!("{FIELD} data-endpoint=\"{value}\""));
    }
    Bytes::from(document)
}

/// The Content-Security-Policy of the page. It allows the page's own script and style and the
/// Socket.IO client, by their SHA-256; requests to this server; and WebSockets to any server.
const POLICY: &str = "default-src 'none'; \
    script-src 'sha256-cAazm/hlxfKjT6ld8b5PfEoUEHWku+6AjAlCoVbe1oo=' \
    'sha256-1deaNQOehgsyve9HlVKLBcL3iNSy2drMkTEg4oePez8='; \
    style-src 'sha256-ZAgZHOFl7KqgcJC0o7ifhQ7iVgahWf0BHmPIexDEOvQ='; \
    connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use ring::digest::{SHA256, digest};

    use super::*;
    use crate::app::faults;
    use crate::socketio;

    /// An edit of the page changes the hashes. With wrong hashes a browser does not run the script.
    #[test]
    fn the_policy_of_the_page_names_its_scripts_and_its_style() {
        let element = |name: &str| {
            let (_, rest) = PAGE.split_once(&format!("<{name}>")).unwrap();
            rest.split_once(&format!("</{name}>")).unwrap().0
        };
        for (directive, text) in [
            ("script-src", element("script")),
            ("script-src", socketio::BROWSER_CLIENT),
            ("style-src", element("style")),
        ] {
            let hash = BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes()));
            let source = format!("'sha256-{hash}'");
            let mut directives = POLICY.split("; ");
            let sources = directives.find_map(|one| one.strip_prefix(directive));
            assert!(
                sources.unwrap().contains(&source),
                "the page has changed: put {source} into {directive} of POLICY"
            );
        }
    }

    #[test]
    fn the_page_explains_every_parameter_and_violation() {
        for name in faults::names() {
            let explained = format!("\n  {name}: ");
            assert_eq!(PAGE.matches(&explained).count(), 1, "{name}");
        }
    }

    #[test]
    fn the_page_hides_sections_of_disabled_features() {
        let all = AppSettings::default;
        for (settings, hidden) in [
            (all(), &[][..]),
            (
                AppSettings {
                    faults: false,
                    ..all()
                },
                &["faults"],
            ),
            (
                AppSettings {
                    deterministic: true,
                    ..all()
                },
                &["socketio"],
            ),
            (
                AppSettings {
                    compat: Some(EchoService::Jmalloc),
                    ..all()
                },
                &["chat", "faults", "socketio"],
            ),
        ] {
            let document = document(&settings);
            let document = String::from_utf8_lossy(&document);
            for name in ["chat", "faults", "socketio"] {
                let is_hidden = document.contains(&format!("<section id=\"{name}\" hidden class"));
                assert_eq!(is_hidden, hidden.contains(&name), "{name}: {settings:?}");
            }
        }
    }
}

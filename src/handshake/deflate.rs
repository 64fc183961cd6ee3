//! The negotiation of permessage-deflate (RFC 7692 §5 and §7.1): a client's offers in, the server's
//! answer out.

use std::collections::HashSet;

use super::extensions::Offer;
use crate::protocol::{ContextTakeover, Deflate, DeflateParameters};

/// The answer to an accepted offer of permessage-deflate.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) parameters: DeflateParameters,
    /// The element of Sec-WebSocket-Extensions (§7.1).
    pub(super) header: String,
}

const NAME: &str = "permessage-deflate";

/// Accepts the first offer that the server supports. A declined offer never fails the handshake:
/// the client may have another one, or continue without compression (§5).
pub(super) fn accept(offers: &[Offer<'_>], deflate: &Deflate) -> Option<Answer> {
    offers
        .iter()
        .filter(|offer| offer.name == NAME)
        .filter_map(Terms::read)
        .find_map(|terms| terms.accept(deflate))
}

/// The parameters of one offer.
#[derive(Default)]
struct Terms {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: Option<u8>,
}

impl Terms {
    /// Reads an offer; `None` if a parameter is unknown, repeated, or has an invalid value (§7).
    fn read(offer: &Offer<'_>) -> Option<Terms> {
        const MAX: u8 = DeflateParameters::MAX_WINDOW_BITS;
        let mut terms = Terms::default();
        let mut names = HashSet::new();
        for (name, value) in &offer.parameters {
            match (*name, value.as_deref()) {
                _ if !names.insert(name) => return None,
                ("server_no_context_takeover", None) => terms.server_no_context_takeover = true,
                ("client_no_context_takeover", None) => terms.client_no_context_takeover = true,
                ("server_max_window_bits", Some(bits)) => {
                    terms.server_max_window_bits = Some(window_bits(bits)?);
                }
                ("client_max_window_bits", None) => terms.client_max_window_bits = Some(MAX),
                ("client_max_window_bits", Some(bits)) => {
                    terms.client_max_window_bits = Some(window_bits(bits)?);
                }
                _ => return None,
            }
        }
        Some(terms)
    }

    /// The answer to this offer; `None` if it demands a server window of 8 bits, which zlib cannot
    /// produce.
    fn accept(self, deflate: &Deflate) -> Option<Answer> {
        const MIN: u8 = DeflateParameters::MIN_WINDOW_BITS;
        const MAX: u8 = DeflateParameters::MAX_WINDOW_BITS;
        let ours = deflate.window_bits.clamp(MIN, MAX);
        let server_max_window_bits = self.server_max_window_bits.unwrap_or(MAX).min(ours);
        if server_max_window_bits < MIN {
            return None;
        }
        let takeover = deflate.context_takeover;
        let takes_over_none = takeover == ContextTakeover::None;
        let offered = self.client_max_window_bits;
        let parameters = DeflateParameters {
            server_no_context_takeover: self.server_no_context_takeover
                || takeover != ContextTakeover::Both,
            client_no_context_takeover: self.client_no_context_takeover || takes_over_none,
            server_max_window_bits,
            client_max_window_bits: offered.map_or(MAX, |offered| offered.min(ours)),
        };
        let mut header = String::from(NAME);
        // The server may drop its context without saying so (§7.1.1.1): some clients fail on a
        // parameter that they did not offer.
        if self.server_no_context_takeover || takes_over_none {
            header.push_str("; server_no_context_takeover");
        }
        if parameters.client_no_context_takeover {
            header.push_str("; client_no_context_takeover");
        }
        if self.server_max_window_bits.is_some() || server_max_window_bits < MAX {
            header.push_str(&format!(
                "; server_max_window_bits={server_max_window_bits}"
            ));
        }
        // The server may limit the client's window only if the offer names it (§7.1.2.2).
        if offered.is_some_and(|offered| offered > ours) {
            header.push_str(&format!("; client_max_window_bits={ours}"));
        }
        Some(Answer { parameters, header })
    }
}

/// Parses a number from 8 to 15 without a leading zero (§7.1.2.1).
fn window_bits(text: &str) -> Option<u8> {
    let bits = text.parse().ok()?;
    let is_valid = (8..=DeflateParameters::MAX_WINDOW_BITS).contains(&bits);
    (is_valid && text == bits.to_string()).then_some(bits)
}

#[cfg(feature = "deflate")]
#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::*;
    use crate::handshake::extensions::{MalformedExtensions, offers};

    /// The server's answer to the header `field`; `D` stands for the extension's name.
    fn answer(field: &str, deflate: &Deflate) -> Result<Option<String>, MalformedExtensions> {
        let mut headers = HeaderMap::new();
        for line in field.split('\n') {
            let line = line.replace('D', NAME);
            let line = HeaderValue::from_str(&line).unwrap();
            headers.append(header::SEC_WEBSOCKET_EXTENSIONS, line);
        }
        let offers = offers(&headers)?;
        let answer = accept(&offers, deflate);
        Ok(answer.map(|answer| answer.header.replace(NAME, "D")))
    }

    #[rustfmt::skip] // one row, one line
    #[test]
    fn rows_d1_to_d20_offers_and_their_answers() {
        const PLAIN: &str = "D; server_no_context_takeover; client_no_context_takeover";
        let default = Deflate::default();
        let takeover = Deflate { context_takeover: ContextTakeover::Both, ..default };
        let none = Deflate { context_takeover: ContextTakeover::None, ..default };
        let narrow = Deflate { window_bits: 10, ..takeover };
        let with = |more: &str| Some(format!("{PLAIN}{more}"));
        let only = |text: &str| Some(String::from(text));
        let mut rows = vec![
            ("D1", "D", none, with("")),
            ("D1", "D", default, only("D")),
            ("D1", "D", takeover, only("D")),
            ("D2", "D; client_max_window_bits", none, with("")),
            ("D2", "D; client_max_window_bits", default, only("D")),
            ("D2", "D; client_max_window_bits", takeover, only("D")),
            ("D2", "D; client_max_window_bits", narrow, only("D; server_max_window_bits=10; client_max_window_bits=10")),
            ("D3", "D; client_max_window_bits=10", none, with("")),
            ("D3", "D; client_max_window_bits=10", default, only("D")),
            ("D3", "D; client_max_window_bits=10", narrow, only("D; server_max_window_bits=10")),
            ("D3", "D; client_max_window_bits=11", narrow, only("D; server_max_window_bits=10; client_max_window_bits=10")),
            ("D4", "D; client_max_window_bits=8", none, with("")),
            ("D4", "D; client_max_window_bits=8", default, only("D")),
            ("D6", "D; server_max_window_bits=\"10\"", none, with("; server_max_window_bits=10")),
            ("D6", "D; server_max_window_bits=\"10\"", default, only("D; server_max_window_bits=10")),
            ("D6", "D; server_max_window_bits=9", narrow, only("D; server_max_window_bits=9")),
            ("D6", "D; server_max_window_bits=12", narrow, only("D; server_max_window_bits=10")),
            ("D7", "D; server_max_window_bits=8", default, None),
            ("D8", "D; server_max_window_bits", default, None),
            ("D8", "D; server_max_window_bits=7", default, None),
            ("D8", "D; server_max_window_bits=16", default, None),
            ("D8", "D; server_max_window_bits=010", default, None),
            ("D9", "D; server_no_context_takeover", none, with("")),
            ("D9", "D; server_no_context_takeover", default, only("D; server_no_context_takeover")),
            ("D9", "D; server_no_context_takeover", takeover, only("D; server_no_context_takeover")),
            ("D10", "D; client_no_context_takeover", none, with("")),
            ("D10", "D; client_no_context_takeover", default, only("D; client_no_context_takeover")),
            ("D10", "D; client_no_context_takeover", takeover, only("D; client_no_context_takeover")),
            ("D11", "D; server_no_context_takeover=1", default, None),
            ("D11", "D; client_no_context_takeover=true", default, None),
            ("D12", "D; server_no_context_takeover; server_no_context_takeover", default, None),
            ("D12", "D; client_no_context_takeover; client_no_context_takeover", default, None),
            ("D12", "D; server_max_window_bits=10; server_max_window_bits=10", default, None),
            ("D13", "D; client_max_window_bits; client_max_window_bits=10", default, None),
            ("D14", "D; foo", default, None),
            ("D14", "D; foo=bar", default, None),
            ("D15", "D; server_max_window_bits=8, D", none, with("")),
            ("D15", "D; server_max_window_bits=8, D", default, only("D")),
            ("D16", "D; foo, D; client_max_window_bits=10", none, with("")),
            ("D16", "D; foo, D; client_max_window_bits=10", default, only("D")),
            ("D16", "D; foo\nbar\nD; client_max_window_bits=10", takeover, only("D")),
            ("D17", "D, D", none, with("")),
            ("D17", "D, D", default, only("D")),
            ("D18", "D; client_max_window_bits=12; server_max_window_bits=11; client_no_context_takeover; server_no_context_takeover", takeover, with("; server_max_window_bits=11")),
            ("D18", "D; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=11; client_max_window_bits=12", narrow, with("; server_max_window_bits=10; client_max_window_bits=10")),
            ("D20", "D", narrow, only("D; server_max_window_bits=10")),
            ("E6", "PERMESSAGE-DEFLATE", default, None),
        ];
        let texts = ["7", "16", "08", "+9", "0x9", "9.0", "99999999999999999999", "-9", "1", "150"];
        let fields: Vec<_> = ["client", "server"]
            .iter()
            .flat_map(|side| texts.map(|text| format!("D; {side}_max_window_bits={text}")))
            .collect();
        rows.extend(fields.iter().map(|field| ("D5", field.as_str(), default, None)));
        for (row, field, deflate, expected) in rows {
            assert_eq!(answer(field, &deflate), Ok(expected), "{row}: {field}");
        }
        assert_eq!(answer("D; client_max_window_bits=", &default), Err(MalformedExtensions), "D5");
        for bits in 9..=15 {
            let offer = format!("D; server_max_window_bits={bits}");
            assert_eq!(answer(&offer, &default), Ok(only(&offer)), "D6");
        }
    }

    #[test]
    fn window_bits_out_of_range_are_clamped() {
        for (window_bits, expected) in [(0, 9), (8, 9), (16, 15), (u8::MAX, 15)] {
            let deflate = Deflate {
                window_bits,
                ..Deflate::default()
            };
            let terms = Terms::default().accept(&deflate).unwrap();
            assert_eq!(terms.parameters.server_max_window_bits, expected);
        }
    }
}

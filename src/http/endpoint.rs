//! A WebSocket endpoint: its handler and the limits of its connections.

use std::fmt;

use http::{HeaderName, HeaderValue, Response};

use super::Page;
use super::limited::{IpSlot, RateLimited, RateLimits};
use super::router::Request;
use crate::engine::{ClientSocket, Connection, ConnectionDriver, Handler, Settings};
use crate::handshake::{HandshakeError, Subprotocols};
use crate::protocol::{DeflateParameters, SizeLimits};

/// A WebSocket endpoint: how its handlers are made and which subprotocols it speaks.
pub struct Endpoint {
    make: Box<MakeConnection>,
    pub(super) subprotocols: Subprotocols,
    is_publishing: bool,
    pub(super) compresses: bool,
    choose: Option<Box<Choose>>,
    change: Option<(HeaderName, HeaderValue)>,
    limits: Option<Box<LimitsOf>>,
    pub(super) refusal: Option<Box<RefusalPage>>,
}

type LimitsOf = dyn Fn(&Request<'_>) -> SizeLimits + Send + Sync;

type RefusalPage = dyn Fn(&Request<'_>, HandshakeError) -> Page + Send + Sync;

type Choose = dyn Fn(&Request<'_>) -> Result<Option<Endpoint>, Page> + Send + Sync;

/// The settings and limits of an accepted client's connection.
pub(super) struct Admitted<'a> {
    pub(super) settings: &'a Settings,
    /// The compression parameters. `None` without compression.
    pub(super) deflate: Option<&'a DeflateParameters>,
    /// The place in the limit of the client's address, if there is a limit.
    pub(super) place: Option<IpSlot>,
}

type MakeConnection = dyn Fn(&Request<'_>, Admitted<'_>, PublishRate) -> Made + Send + Sync;

/// The maximum rate of a connection's published messages a second.
type PublishRate = Option<u32>;

type Made = Result<Box<dyn ConnectionDriver<ClientSocket>>, HandshakeError>;

impl Endpoint {
    /// Creates an endpoint that accepts every connection.
    pub fn new<H: Handler>(make: impl Fn(&Request<'_>) -> H + Send + Sync + 'static) -> Endpoint {
        Endpoint::refusing(move |request| Ok(make(request)))
    }

    /// Creates an endpoint that may refuse a valid handshake before the 101, for example with
    /// [`Unauthorized`](HandshakeError::Unauthorized), [`Forbidden`](HandshakeError::Forbidden) or
    /// [`NotFound`](HandshakeError::NotFound).
    pub fn refusing<H: Handler>(
        make: impl Fn(&Request<'_>) -> Result<H, HandshakeError> + Send + Sync + 'static,
    ) -> Endpoint {
        Endpoint {
            make: Box::new(move |request, admitted, publish_rate| {
                let handler = make(request)?;
                let Admitted {
                    settings,
                    deflate,
                    place,
                } = admitted;
                Ok(match (settings.max_message_rate, publish_rate, place) {
                    (None, None, None) => Box::new(Connection::new(handler, settings, deflate)),
                    (rate, publish_rate, place) => {
                        let handler = RateLimited {
                            handler,
                            rates: RateLimits::new(rate, publish_rate),
                            _place: place,
                        };
                        Box::new(Connection::new(handler, settings, deflate))
                    }
                })
            }),
            subprotocols: Subprotocols::default(),
            is_publishing: false,
            compresses: true,
            choose: None,
            change: None,
            limits: None,
            refusal: None,
        }
    }

    /// Refuses invalid handshakes with this page, instead of the error's own status and advice.
    #[must_use]
    pub fn refusing_with(
        mut self,
        page: impl Fn(&Request<'_>, HandshakeError) -> Page + Send + Sync + 'static,
    ) -> Endpoint {
        self.refusal = Some(Box::new(page));
        self
    }

    /// Sets limits for each connection. They apply where they are narrower than the server's.
    #[must_use]
    pub fn with_limits(
        mut self,
        limits: impl Fn(&Request<'_>) -> SizeLimits + Send + Sync + 'static,
    ) -> Endpoint {
        self.limits = Some(Box::new(limits));
        self
    }

    /// Serves a request by the endpoint that `choose` returns, or by this one if `choose` returns
    /// `None`; in both cases with the subprotocols of this one. If `choose` returns a page, the
    /// page refuses a request whose handshake is valid.
    #[must_use]
    pub fn choosing(
        mut self,
        choose: impl Fn(&Request<'_>) -> Result<Option<Endpoint>, Page> + Send + Sync + 'static,
    ) -> Endpoint {
        self.choose = Some(Box::new(choose));
        self
    }

    pub(super) fn choose(&self, request: &Request<'_>) -> Result<Option<Endpoint>, Page> {
        match &self.choose {
            Some(choose) => choose(request),
            None => Ok(None),
        }
    }

    /// Replaces a header field of the 101; the result may be invalid.
    #[cfg(feature = "cli")]
    pub(crate) fn changing(mut self, change: Option<(HeaderName, HeaderValue)>) -> Endpoint {
        self.change = change;
        self
    }

    /// Applies the change to the 101.
    pub(super) fn changed(&self, mut response: Response<()>) -> Response<()> {
        if let Some((name, value)) = &self.change {
            response.headers_mut().insert(name, value.clone());
        }
        response
    }

    /// Sets which of the client's subprotocols is chosen. By default none is chosen.
    #[must_use]
    pub fn with_subprotocols(mut self, subprotocols: Subprotocols) -> Endpoint {
        self.subprotocols = subprotocols;
        self
    }

    /// Declares that the handler publishes every data message to a room. Then
    /// [`Settings::max_publish_rate`] applies to the client, and a message larger than
    /// [`SlowConsumer::max_bytes`](crate::engine::SlowConsumer) is refused with 1009, because it
    /// would close members that have a backlog.
    #[must_use]
    pub fn publishing(mut self) -> Endpoint {
        self.is_publishing = true;
        self
    }

    /// Declines compression, even if the server's settings allow it.
    #[must_use]
    pub fn uncompressed(mut self) -> Endpoint {
        self.compresses = false;
        self
    }

    pub(super) fn connection(&self, request: &Request<'_>, admitted: Admitted<'_>) -> Made {
        let rate = admitted.settings.max_publish_rate;
        let rate = rate.filter(|_| self.is_publishing);
        let all = admitted.settings.limits;
        let queue = match self.is_publishing {
            true => admitted.settings.slow_consumer.max_bytes,
            false => usize::MAX,
        };
        if self.limits.is_none() && queue >= all.max_message_size {
            return (self.make)(request, admitted, rate);
        }
        let own = self.limits.as_ref().map_or(all, |limits| limits(request));
        let settings = Settings {
            limits: SizeLimits {
                max_message_size: own.max_message_size.min(all.max_message_size).min(queue),
                max_frame_size: own.max_frame_size.min(all.max_frame_size),
            },
            ..admitted.settings.clone()
        };
        let admitted = Admitted {
            settings: &settings,
            ..admitted
        };
        (self.make)(request, admitted, rate)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Endpoint")
            .field("subprotocols", &self.subprotocols)
            .finish_non_exhaustive()
    }
}

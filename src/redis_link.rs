//! A connection to Redis that reconnects after each loss, for the life of the process.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo, ProtocolVersion, PushInfo,
    RedisError, RedisResult,
};
use tokio::time::{sleep, timeout};

/// Timeout of a connection attempt and of each command.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// The address and settings of a Redis server. Creating a `Link` connects nothing.
#[derive(Clone)]
pub(crate) struct Link(Client);

/// The work done over a link: [`keep`] calls [`carry`](LinkSession::carry) again after each loss.
pub(crate) trait LinkSession {
    /// Connects to Redis, sets `is_connected`, and works until the connection is lost. Returns the
    /// error that ended it.
    async fn carry(&mut self, is_connected: &mut bool) -> RedisResult<Infallible>;

    /// Called when the connection is lost, and when connecting fails: then once per outage, not for
    /// each attempt.
    fn failed(&mut self, error: &RedisError, was_connected: bool);
}

impl Link {
    /// A link to the Redis at `url`: `redis://USER:PASSWORD@HOST:PORT/DB`, or `rediss://` for TLS.
    /// Redis must be version 6 or later (RESP3).
    ///
    /// # Errors
    /// When `url` is not a valid Redis URL.
    pub(crate) fn new(url: &str) -> RedisResult<Link> {
        let info = url.into_connection_info()?;
        let settings = info.redis_settings().clone();
        let resp3 = settings.set_protocol(ProtocolVersion::RESP3);
        Client::open(info.set_redis_settings(resp3)).map(Link)
    }

    /// Connects; each command times out after [`PATIENCE`]. `push` receives, in order, the messages
    /// of subscriptions and the end of the connection.
    pub(crate) async fn connect(
        &self,
        push: impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static,
    ) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new().set_push_sender(push);
        self.connect_with(config, Some(PATIENCE)).await
    }

    /// Connects without a timeout for commands, for the blocking ones (`BZPOPMIN`): the caller sets
    /// the timeout.
    pub(crate) async fn connect_to_wait(&self) -> RedisResult<MultiplexedConnection> {
        self.connect_with(AsyncConnectionConfig::new(), None).await
    }

    async fn connect_with(
        &self,
        config: AsyncConnectionConfig,
        response: Option<Duration>,
    ) -> RedisResult<MultiplexedConnection> {
        let config = config
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(response);
        let connect = self.0.get_multiplexed_async_connection_with_config(&config);
        // The library's connection timeout does not cover the greeting (HELLO).
        in_time(connect).await
    }
}

/// Keeps `session` connected for as long as this future is polled. The pause between attempts grows
/// from 50 ms to 1 s.
pub(crate) async fn keep(mut session: impl LinkSession) -> Infallible {
    const FIRST_PAUSE: Duration = Duration::from_millis(50);
    const LONGEST_PAUSE: Duration = Duration::from_secs(1);
    let mut pause = FIRST_PAUSE;
    let mut is_told = false;
    loop {
        let mut is_connected = false;
        let Err(error) = session.carry(&mut is_connected).await;
        if is_connected {
            (pause, is_told) = (FIRST_PAUSE, false);
        }
        if !is_told {
            session.failed(&error, is_connected);
            is_told = !is_connected;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The result of `act`, or an error after [`PATIENCE`].
pub(crate) async fn in_time<T>(act: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    timeout(PATIENCE, act).await.map_err(|_| gone())?
}

pub(crate) fn gone() -> RedisError {
    RedisError::from((ErrorKind::Io, "no answer in time"))
}

impl fmt::Debug for Link {
    /// Leaves out the URL, which may contain a password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Link").finish_non_exhaustive()
    }
}

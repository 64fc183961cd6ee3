//! One Redis for as long as the process lives: a connection, and the next one whenever it is lost.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo, ProtocolVersion, PushInfo,
    RedisError, RedisResult,
};
use tokio::time::{sleep, timeout};

/// How long Redis may take for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// Where Redis is. Nothing is connected yet.
#[derive(Clone)]
pub(crate) struct Link(Client);

/// What is carried over a link.
pub(crate) trait LinkSession {
    /// What is there once Redis is.
    type Ready;

    /// Connects.
    async fn connect(&mut self) -> RedisResult<Self::Ready>;

    /// Carries until the connection is lost, and says why it was.
    async fn carry(&mut self, ready: Self::Ready) -> RedisError;

    /// The link is now in another state.
    fn changed(&mut self, state: LinkState<'_>);
}

/// How it stands with a link.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LinkState<'a> {
    Connected,
    Lost(&'a RedisError),
    /// No connection can be made. This is told once until there is one again: it may be long.
    Unreachable(&'a RedisError),
}

impl Link {
    /// The Redis at `url`, `redis://USER:PASSWORD@HOST:PORT/DB` or `rediss://` with TLS. It must be
    /// version 6 or later (RESP3).
    ///
    /// # Errors
    /// When `url` is none.
    pub(crate) fn new(url: &str) -> RedisResult<Link> {
        let info = url.into_connection_info()?;
        let settings = info.redis_settings().clone();
        let resp3 = settings.set_protocol(ProtocolVersion::RESP3);
        Client::open(info.set_redis_settings(resp3)).map(Link)
    }

    /// A connection whose answers are due in [`PATIENCE`]. What comes unasked, of what it subscribes
    /// to, and its end go to `push`, in order.
    pub(crate) async fn connect(
        &self,
        push: impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static,
    ) -> RedisResult<MultiplexedConnection> {
        let config = config().set_push_sender(push);
        self.connect_with(config.set_response_timeout(Some(PATIENCE)))
            .await
    }

    /// A connection for commands that wait: how long is up to who gives them.
    pub(crate) async fn connect_to_wait(&self) -> RedisResult<MultiplexedConnection> {
        self.connect_with(config().set_response_timeout(None)).await
    }

    async fn connect_with(
        &self,
        config: AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        let connect = self.0.get_multiplexed_async_connection_with_config(&config);
        // The library's own patience does not cover the greeting.
        in_time(connect).await
    }
}

/// Carries for as long as this is polled: connects, and again after each loss.
pub(crate) async fn keep(mut session: impl LinkSession) -> Infallible {
    const FIRST_PAUSE: Duration = Duration::from_millis(50);
    const LONGEST_PAUSE: Duration = Duration::from_secs(1);
    let mut pause = FIRST_PAUSE;
    let mut is_told = false;
    loop {
        match session.connect().await {
            Ok(ready) => {
                (pause, is_told) = (FIRST_PAUSE, false);
                session.changed(LinkState::Connected);
                let error = session.carry(ready).await;
                session.changed(LinkState::Lost(&error));
            }
            Err(error) if !is_told => {
                is_told = true;
                session.changed(LinkState::Unreachable(&error));
            }
            Err(_) => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE))
}

/// What Redis answers within [`PATIENCE`].
pub(crate) async fn in_time<T>(act: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    timeout(PATIENCE, act).await.map_err(|_| gone())?
}

pub(crate) fn gone() -> RedisError {
    RedisError::from((ErrorKind::Io, "it does not answer"))
}

impl fmt::Debug for Link {
    /// Without the address, which may have a password in it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Link").finish_non_exhaustive()
    }
}

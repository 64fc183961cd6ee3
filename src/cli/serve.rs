//! `frameloop serve`: binds, tells where, serves, and drains on a signal.

use std::convert::Infallible;
use std::io::{self, Write};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Exit;
use super::arguments::Serve;
use super::logs;
use super::service_manager;
use crate::app;
use crate::server::{ListenAddress, Server, Shutdown};
#[cfg(feature = "tls")]
use crate::tls::Certificate;

pub(super) fn serve(arguments: &Serve) -> Exit {
    let _logs = logs::start(&arguments.logs);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(arguments)),
        Err(error) => {
            tracing::error!("cannot start: {error}");
            Exit::Failed
        }
    }
}

async fn run(arguments: &Serve) -> Exit {
    let server = match bind(&arguments.listen).await {
        Ok(server) => server,
        Err(Unbound { address, error }) => {
            eprintln!("frameloop: cannot listen on {address}: {}", advice(&error));
            return Exit::CannotListen;
        }
    };
    let max_connections = arguments.max_connections(raise_open_files());
    let server = server
        .with_settings(arguments.settings())
        .with_policy(arguments.policy())
        .with_http(arguments.http())
        .with_workers(arguments.workers())
        .with_max_connections(max_connections)
        .with_max_connections_per_address(arguments.limits.max_connections_per_address())
        .with_drain_timeout(arguments.deadlines.drain_timeout);
    // Before anybody is told where: from then on a signal means a drain.
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!("cannot listen for signals: {error}");
            return Exit::Failed;
        }
    };
    let addresses = server.local_addresses().unwrap_or_default();
    #[cfg(feature = "tls")]
    let (server, certificate) = match arguments.tls.certificate(&addresses) {
        Ok(certificate) => (server.with_certificate(certificate.clone()), certificate),
        Err(error) => {
            eprintln!("frameloop: cannot speak TLS: {error}; see --tls-cert and --tls-key");
            return Exit::Usage;
        }
    };
    #[cfg(feature = "tls")]
    let is_secure = certificate.is_some();
    #[cfg(not(feature = "tls"))]
    let is_secure = false;
    // Whoever closed standard output does not want to know.
    let _ = print_endpoints(&addresses, is_secure);
    #[cfg(feature = "tls")]
    if let Some(certificate) = certificate
        .as_ref()
        .filter(|_| arguments.tls.is_self_signed())
    {
        let _ = writeln!(
            io::stdout(),
            "Certificate (SHA-256): {}",
            certificate.fingerprint()
        );
        let _ = io::stdout().flush();
    }
    let reload = move || {
        #[cfg(feature = "tls")]
        match certificate.as_ref().map(Certificate::reload) {
            Some(Ok(())) => tracing::info!("the certificate was read again"),
            Some(Err(error)) => tracing::error!("the certificate stays as it was: {error}"),
            None => {}
        }
    };
    service_manager::is_ready();
    let shutdown = server.shutdown();
    let served = tokio::select! {
        served = server.serve(arguments.app().router()) => served,
        never = signals.obey(shutdown, reload) => match never {},
    };
    match served {
        Ok(()) => Exit::Done,
        Err(error) => {
            tracing::error!("failed while serving: {error}");
            Exit::Failed
        }
    }
}

/// An address that could not be listened on.
struct Unbound {
    address: String,
    error: io::Error,
}

async fn bind(addresses: &[String]) -> Result<Server, Unbound> {
    let mut server = Server::default();
    for address in addresses {
        let bound = match address.as_str() {
            service_manager::SYSTEMD => service_manager::listen(server),
            address => server.and_bind(address).await,
        };
        server = bound.map_err(|error| Unbound {
            address: address.clone(),
            error,
        })?;
    }
    Ok(server)
}

fn advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            String::from("it is in use; stop the other server or choose another port with --listen")
        }
        io::ErrorKind::PermissionDenied => String::from(
            "permission denied; take a port from 1024 up with --listen, or run with the right to",
        ),
        io::ErrorKind::AddrNotAvailable => String::from(
            "this machine does not have that address; 127.0.0.1 is for itself, 0.0.0.0 for all",
        ),
        _ => format!("{error}; choose another address with --listen"),
    }
}

/// Raises the soft limit of open files to the hard one, and says what holds now.
pub(super) fn raise_open_files() -> usize {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
        Err(error) => {
            tracing::warn!("cannot read the limit of open files: {error}");
            1_024
        }
    }
}

fn print_endpoints(addresses: &[ListenAddress], is_secure: bool) -> io::Result<()> {
    let (http, websocket) = match is_secure {
        true => ("https", "wss"),
        false => ("http", "ws"),
    };
    let mut out = io::stdout().lock();
    let mut base = String::from("127.0.0.1");
    for (index, address) in addresses.iter().enumerate() {
        match address {
            ListenAddress::Tcp(address) => {
                writeln!(out, "frameloop serves on {http}://{address}")?;
                if index == 0 {
                    base = address.to_string();
                }
            }
            ListenAddress::Unix(path) => {
                writeln!(out, "frameloop serves on unix:{}", path.display())?;
            }
        }
    }
    writeln!(out)?;
    for endpoint in app::ENDPOINTS {
        let scheme = if endpoint.is_websocket {
            websocket
        } else {
            http
        };
        let url = format!("{scheme}://{base}{}", endpoint.example);
        writeln!(out, "  {url:<40} {}", endpoint.what)?;
    }
    writeln!(out, "\nCtrl-C stops it; frameloop --help tells the rest.")?;
    out.flush()
}

/// SIGTERM, SIGINT and SIGHUP.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Drains on the first, cuts on the second; reloads on every SIGHUP.
    async fn obey(mut self, shutdown: Shutdown, reload: impl Fn()) -> Infallible {
        self.next(&reload).await;
        tracing::info!("stopping: clients are sent a Close; once more stops at once");
        service_manager::is_stopping();
        shutdown.drain();
        self.next(&reload).await;
        shutdown.cut();
        std::future::pending().await
    }

    /// Waits for SIGTERM or SIGINT.
    async fn next(&mut self, reload: &impl Fn()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hangup.recv() => reload(),
            }
        }
    }
}

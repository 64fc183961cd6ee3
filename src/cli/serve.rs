//! `frameloop serve`: binds, prints the addresses, serves, and drains on a signal.

use std::convert::Infallible;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Exit;
use super::announcement::Announcement;
use super::arguments::Serve;
use super::logs;
use super::memory;
use super::operator::{METRICS, Operator, READYZ};
use super::service_manager;
use super::warnings;
use crate::app::{self, AppSettings, Description};
use crate::server::{Server, Shutdown, UnixAddress};
use crate::tls::Certificate;

pub(super) fn serve(arguments: &Serve) -> Exit {
    let _logs = logs::start(&arguments.logs, arguments.deterministic);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(arguments)).err().unwrap_or(Exit::Done),
        Err(error) => {
            tracing::error!("cannot start: {error}");
            Exit::Failed
        }
    }
}

async fn run(arguments: &Serve) -> Result<(), Exit> {
    let app = app_settings(arguments).map_err(wrong)?;
    let server = bind(&arguments.listen(), "--listen (FRAMELOOP_LISTEN)").await?;
    let admin = match &arguments.admin_listen {
        Some(address) => {
            let flag = "--admin-listen (FRAMELOOP_ADMIN_LISTEN)";
            let admin = bind(std::slice::from_ref(address), flag).await?;
            Some(admin.with_workers(1))
        }
        None => None,
    };
    let server = with_settings(server, arguments);
    // Before the addresses are printed: from then on a signal must start a drain.
    let signals = Signals::new().map_err(|error| {
        tracing::error!("cannot listen for signals: {error}");
        Exit::Failed
    })?;
    let addresses = server.local_addresses().unwrap_or_default();
    let certificate = arguments.tls.certificate(&addresses).map_err(|error| {
        wrong(format!(
            "cannot speak TLS: {error}; see --tls-cert (FRAMELOOP_TLS_CERT) and --tls-key \
             (FRAMELOOP_TLS_KEY)"
        ))
    })?;
    let admin_addresses = admin.as_ref().map(Server::local_addresses);
    let announcement = Announcement {
        serve: arguments,
        app: &app,
        addresses: &addresses,
        admin: admin_addresses.and_then(|addresses| addresses.ok()?.into_iter().next()),
        certificate: certificate.as_ref(),
    };
    warnings::warn(arguments, &addresses);
    // Standard output may be closed: then the announcement is lost.
    let _ = announcement.print();
    let operator = Operator::new(server.shutdown(), arguments.has_metrics());
    if let Some(redis) = &app.redis {
        redis.count_in(operator.metrics.clone());
    }
    let server = server
        .with_certificate(certificate.clone())
        .with_metrics(operator.metrics.clone());
    let signals = signals.obey(server.shutdown(), certificate);
    let router = operator.readiness(app::router_with(app));
    let (router, administer) = match admin {
        Some(admin) => (router, Some(admin.serve(operator.router()))),
        None => (operator.metrics(router), None),
    };
    service_manager::is_ready();
    let served = tokio::select! {
        served = server.serve(router) => served,
        // Nothing shuts the operator's server down: it ends only if it fails.
        Some(Err(error)) = async { Some(administer?.await) } => Err(error),
        never = signals => match never {},
    };
    served.map_err(|error| {
        tracing::error!("failed while serving: {error}");
        Exit::Failed
    })
}

/// Prints what is wrong with a flag or a variable.
fn wrong(error: String) -> Exit {
    eprintln!("frameloop: {error}");
    Exit::Usage
}

fn with_settings(server: Server, arguments: &Serve) -> Server {
    server
        .with_settings(arguments.settings())
        .with_policy(arguments.access.policy())
        .with_http_settings(arguments.http())
        .with_workers(arguments.workers())
        .with_max_connections(arguments.max_connections())
        .with_max_connections_per_address(arguments.limits.max_connections_per_address())
        .with_drain_timeout(arguments.deadlines.drain_timeout)
        .with_proxies(arguments.access.proxy_protocol_from.clone())
        .on_worker_idle(memory::give_back)
}

/// Returns the settings of the endpoints. Their connections to Redis run as tasks of this runtime.
fn app_settings(arguments: &Serve) -> Result<AppSettings, String> {
    if let Some(service) = arguments.compat {
        service.check_variables()?;
    }
    let settings = arguments.settings();
    Ok(AppSettings {
        faults: !arguments.no_faults,
        compat: arguments.compat,
        deterministic: arguments.deterministic,
        max_publish_rate: settings.max_publish_rate,
        redis: arguments.channel_layer.redis()?,
        socketio: Some(arguments.socketio.settings(&settings)?).filter(|_| !arguments.no_socketio),
        further_pages: further_pages(arguments),
    })
}

/// The operator's pages on the main address.
fn further_pages(arguments: &Serve) -> Vec<Description> {
    match arguments.admin_listen.is_none() && arguments.has_metrics() {
        true => vec![READYZ, METRICS],
        false => vec![READYZ],
    }
}

/// Returns a server that listens on these addresses, the values of `flag`. Prints an error with
/// advice if it cannot listen.
async fn bind(addresses: &[String], flag: &str) -> Result<Server, Exit> {
    let mut server = Server::default();
    for address in addresses {
        let bound = match address.as_str() {
            service_manager::SYSTEMD => service_manager::listen(server),
            address => server.bind_also(address).await,
        };
        server = bound.map_err(|error| {
            let advice = match address.starts_with(UnixAddress::PREFIX) {
                true => advice_on_file(&error, address, flag),
                false => advice(&error, flag),
            };
            eprintln!("frameloop: cannot listen on {address}: {advice}");
            Exit::NoAddress
        })?;
    }
    Ok(server)
}

fn advice_on_file(error: &io::Error, address: &str, flag: &str) -> String {
    let address = address.parse::<UnixAddress>().ok();
    let directory = address.as_ref().and_then(|address| address.path().parent());
    match directory {
        Some(directory) if !directory.as_os_str().is_empty() && !directory.exists() => {
            format!(
                "the directory {} does not exist: make it",
                directory.display()
            )
        }
        // An unknown group: another address has the same.
        _ if error.raw_os_error().is_none() => error.to_string(),
        _ => format!("{error}; choose another address with {flag}"),
    }
}

fn advice(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("it is in use; stop the other server or choose another port with {flag}")
        }
        io::ErrorKind::PermissionDenied => format!(
            "permission denied; take a port from 1024 up with {flag}, or run with the right to"
        ),
        io::ErrorKind::AddrNotAvailable => String::from(
            "this machine does not have that address; 127.0.0.1 is for itself, 0.0.0.0 for all",
        ),
        _ => format!("{error}; choose another address with {flag}"),
    }
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

    /// Drains on the first SIGTERM or SIGINT, cuts on the second; reads the certificate again on
    /// every SIGHUP.
    async fn obey(mut self, shutdown: Shutdown, certificate: Option<Certificate>) -> Infallible {
        self.next(certificate.as_ref()).await;
        tracing::info!("stopping: clients are sent a Close; once more stops at once");
        service_manager::is_stopping();
        shutdown.drain();
        self.next(certificate.as_ref()).await;
        shutdown.cut();
        std::future::pending().await
    }

    /// Waits for SIGTERM or SIGINT.
    async fn next(&mut self, certificate: Option<&Certificate>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hangup.recv() => match certificate.map(Certificate::reload) {
                    Some(Ok(())) => tracing::info!("the certificate was read again"),
                    Some(Err(error)) => tracing::error!("the certificate stays as it was: {error}"),
                    None => {}
                },
            }
        }
    }
}

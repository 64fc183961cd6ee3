//! All tests through TLS: their clients reach the server through a forwarder that adds TLS and does
//! not interpret the bytes.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use frameloop::Router;
use frameloop::server::Server;
use frameloop::tls::Certificate;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio::try_join;
use tokio_rustls::TlsConnector;

use super::server::TestServer;
use super::tls_client;

/// A TLS server, with the address of a forwarder that accepts plain connections.
pub(crate) fn serving(router: Router, configure: impl FnOnce(Server) -> Server) -> TestServer {
    let certificate = Certificate::self_signed(vec!["localhost".into()]).unwrap();
    let mut server = TestServer::plainly_serving(router, |server| {
        configure(server).with_certificate(Some(certificate))
    });
    server.address = encrypting(server.address);
    server
}

fn encrypting(server: SocketAddr) -> SocketAddr {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let connector = TlsConnector::from(tls_client::config());
    thread::spawn(move || {
        runtime.block_on(async {
            while let Ok((client, _)) = listener.accept().await {
                let connector = connector.clone();
                tokio::spawn(async move {
                    let Ok(stream) = TcpStream::connect(server).await else {
                        return; // the server has stopped
                    };
                    stream.set_nodelay(true).unwrap();
                    client.set_nodelay(true).unwrap();
                    let name = ServerName::try_from("localhost").unwrap();
                    if let Ok(stream) = connector.connect(name, stream).await {
                        pass(client, stream).await;
                    }
                });
            }
        });
    });
    address
}

/// How long a client of a reset connection may read the bytes that came before.
const REST: Duration = Duration::from_secs(2);

/// Forwards both directions, until both have ended or one has failed.
async fn pass(client: impl AsyncRead + AsyncWrite, server: impl AsyncRead + AsyncWrite) {
    let (mut from_client, mut to_client) = split(client);
    let (mut from_server, mut to_server) = split(server);
    let up = async {
        let copied = copy(&mut from_client, &mut to_server).await;
        if copied.is_err() {
            sleep(REST).await;
        }
        copied?;
        to_server.shutdown().await
    };
    let down = async {
        copy(&mut from_server, &mut to_client).await?;
        to_client.shutdown().await
    };
    let _ = try_join!(up, down);
}

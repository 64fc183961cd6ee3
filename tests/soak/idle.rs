//! Many idle connections that stay open.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::client::request;
use crate::process::ServerProcess;
use crate::report::{Kind, figure};
use crate::soak;
use crate::trend::Trend;

#[derive(Debug, Default)]
struct Counts {
    open: AtomicU64,
    pings: AtomicU64,
    ended: AtomicU64,
}

#[test]
fn idle_connections_are_kept_and_pinged() {
    let (wanted, arguments): (u64, &[&str]) = match soak::duration() {
        Some(_) => (15_000, &[]),
        None => (500, &["--ping-interval", "500ms"]),
    };
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let connections = wanted.min(limit.saturating_sub(1_000));
    let server = ServerProcess::start(arguments);
    let address = server.address;
    let counts = Arc::new(Counts::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let connecting = Arc::new(Semaphore::new(64));
    for _ in 0..connections {
        runtime.spawn(idle(address, Arc::clone(&counts), Arc::clone(&connecting)));
    }
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let clients = thread::spawn(move || {
        let _ = runtime.block_on(stopped);
    });
    while counts.open.load(Ordering::SeqCst) < connections {
        assert_eq!(counts.ended.load(Ordering::SeqCst), 0, "refused");
        thread::sleep(Duration::from_millis(10));
    }
    let trend = Trend::watch(&server, || {});
    let pings = counts.pings.load(Ordering::SeqCst);
    let ended = counts.ended.load(Ordering::SeqCst);
    figure(
        Kind::Soak,
        1,
        "idle connections: kept",
        "all open, all pinged after 20 s of silence",
        format_args!("{connections} open, {ended} ended, {pings} pings answered"),
    );
    assert_eq!(ended, 0);
    assert!(pings >= connections, "{pings} pings for {connections}");
    trend.is_level(1, "idle");
    drop(stop);
    clients.join().unwrap();
}

async fn idle(address: SocketAddr, counts: Arc<Counts>, connecting: Arc<Semaphore>) {
    let open = async {
        let _turn = connecting.acquire().await;
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request("/echo").as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        std::io::Result::Ok(stream)
    };
    if let Ok(mut stream) = open.await {
        counts.open.fetch_add(1, Ordering::SeqCst);
        let mut frame = [0; 2];
        while stream.read_exact(&mut frame).await.is_ok() && frame == [0x89, 0] {
            counts.pings.fetch_add(1, Ordering::SeqCst);
            if stream.write_all(&[0x8A, 0x80, 1, 2, 3, 4]).await.is_err() {
                break;
            }
        }
    }
    counts.ended.fetch_add(1, Ordering::SeqCst);
}

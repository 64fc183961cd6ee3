//! HTTP/2 without TLS, which only `--compat jmalloc` serves.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use frameloop::Settings;
use frameloop::app::compat::EchoService;
use frameloop::app::{self, AppSettings};
use frameloop::handshake::Policy;
use frameloop::http::HttpSettings;
use frameloop::server::Server;
use h2::client::{self, SendRequest};
use h2::{Reason, RecvStream};
use http::{Request, Response};
use tokio::net::TcpStream;

use crate::client::{Client, request};
use crate::process::{Resources, ServerProcess};
use crate::report::{Kind, figure};
use crate::server::TestServer;

fn jmalloc(configure: impl FnOnce(Server) -> Server) -> TestServer {
    let router = app::router_with(AppSettings {
        compat: Some(EchoService::Jmalloc),
        ..AppSettings::default()
    });
    TestServer::plainly_serving(router, configure)
}

/// Runs `talk` with an HTTP/2 connection to the server.
fn by_http2<T, F>(server: &TestServer, talk: impl FnOnce(SendRequest<bytes::Bytes>) -> F) -> T
where
    F: Future<Output = T>,
{
    with_window(server.address, 65_535, talk)
}

/// Runs `talk` with an HTTP/2 connection whose window admits at most `window` bytes of a response.
fn with_window<T, F>(
    address: SocketAddr,
    window: u32,
    talk: impl FnOnce(SendRequest<bytes::Bytes>) -> F,
) -> T
where
    F: Future<Output = T>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut client = client::Builder::new();
        client.initial_window_size(window).enable_push(false);
        let (requests, connection) = client.handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let talk = talk(requests.ready().await.unwrap());
        let in_time = tokio::time::timeout(Duration::from_secs(60), talk).await;
        in_time.expect("the server answers or resets every stream")
    })
}

async fn body(stream: &mut RecvStream) -> String {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data.unwrap();
        stream.flow_control().release_capacity(data.len()).unwrap();
        body.extend(data);
    }
    String::from_utf8(body).unwrap()
}

async fn answer(
    requests: &mut SendRequest<bytes::Bytes>,
    request: Request<()>,
    sent: &str,
) -> (Response<RecvStream>, String) {
    let (response, mut stream) = requests.send_request(request, false).unwrap();
    stream.send_data(sent.to_owned().into(), true).unwrap();
    let mut response = response.await.unwrap();
    let body = body(response.body_mut()).await;
    (response, body)
}

#[test]
fn http2_requests_are_echoed_concurrently() {
    let server = jmalloc(|server| server);
    by_http2(&server, |mut requests| async move {
        // The first request is still open while the second is answered.
        let open = Request::post("http://a:1/open").body(()).unwrap();
        let (first, mut stream) = requests.send_request(open, false).unwrap();
        let whole = Request::post("http://a:1/b/c?d=e")
            .header("x-send-server-hostname", "false")
            .header("x-one", "1")
            .body(())
            .unwrap();
        let (response, text) = answer(&mut requests, whole, "hello").await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/plain");
        assert_eq!(
            text,
            "POST /b/c?d=e HTTP/2.0\n\nHost: a:1\nX-One: 1\nX-Send-Server-Hostname: false\n\nhello"
        );
        stream.send_data("late".into(), true).unwrap();
        let text = body(first.await.unwrap().body_mut()).await;
        assert!(
            text.ends_with("POST /open HTTP/2.0\n\nHost: a:1\n\nlate"),
            "{text}"
        );
    });
}

#[test]
fn a_drain_ends_the_event_stream() {
    let server = jmalloc(|server| server);
    let shutdown = server.shutdown.clone();
    by_http2(&server, |mut requests| async move {
        let request = Request::get("http://a/.sse").body(()).unwrap();
        let (response, _) = requests.send_request(request, true).unwrap();
        let mut response = response.await.unwrap();
        let headers = response.headers();
        assert_eq!(headers["content-type"], "text/event-stream");
        assert!(!headers.contains_key("connection"), "{headers:?}");
        let first = response.body_mut().data().await.unwrap().unwrap();
        let first = String::from_utf8_lossy(&first);
        assert!(first.contains("\ndata: GET /.sse HTTP/2.0\n"), "{first}");
        shutdown.drain();
        // The stream ends normally, without a reset.
        body(response.body_mut()).await;
    });
    server.stopped().unwrap();
}

#[test]
fn a_drain_waits_for_a_request_that_has_begun() {
    let server = jmalloc(|server| server);
    let shutdown = server.shutdown.clone();
    let echoed = by_http2(&server, |mut requests| async move {
        let request = Request::post("http://localhost/").body(()).unwrap();
        let (response, mut sending) = requests.send_request(request, false).unwrap();
        sending.send_data("first, ".into(), false).unwrap();
        // An answer to a later request shows that the server has read this one.
        let later = Request::get("http://localhost/later").body(()).unwrap();
        answer(&mut requests, later, "").await;
        shutdown.drain();
        tokio::time::sleep(Duration::from_millis(100)).await; // long enough for a premature end
        sending.send_data("last".into(), true).unwrap();
        body(response.await.unwrap().body_mut()).await
    });
    assert!(echoed.contains("first, last"), "{echoed}");
    server.stopped().unwrap();
}

/// The write timeout of these tests.
const WRITE_STALL: Duration = Duration::from_millis(300);

fn hasty() -> TestServer {
    jmalloc(|server| {
        let mut settings = Settings::default();
        settings.deadlines.write_stall = WRITE_STALL;
        server.with_settings(settings)
    })
}

/// 32 large requests whose responses the client does not read: the server holds 8 bodies at a time,
/// and resets each stream in time.
#[test]
fn attack_73_a_response_that_is_not_read_is_reset() {
    const REQUESTS: usize = 32;
    let server = ServerProcess::start(&["--compat", "jmalloc", "--write-timeout", "300ms"]);
    let id = server.id();
    let before = server.settled().anonymous;
    let (most, resident) = with_window(server.address, 0, |mut requests| async move {
        let open = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let mut resident = 0;
        let mut streams = Vec::new();
        for _ in 0..REQUESTS {
            requests = requests.ready().await.unwrap();
            let request = Request::post("http://a/").body(()).unwrap();
            let (response, mut body) = requests.send_request(request, false).unwrap();
            body.send_data(vec![7; 1 << 20].into(), true).unwrap();
            let (open, most) = (Arc::clone(&open), Arc::clone(&most));
            streams.push(tokio::spawn(async move {
                let mut response = response.await.unwrap();
                most.fetch_max(open.fetch_add(1, Relaxed) + 1, Relaxed);
                let data = response.body_mut().data().await.unwrap();
                open.fetch_sub(1, Relaxed);
                data.unwrap_err().reason()
            }));
        }
        for stream in streams {
            assert_eq!(stream.await.unwrap(), Some(Reason::CANCEL));
            resident = resident.max(Resources::of(id).anonymous);
        }
        (most.load(Relaxed), resident)
    });
    // What the allocator keeps for later does not grow with the number of requests.
    let began = Instant::now();
    let bound = before + (4 << 10);
    while server.resources().anonymous > bound && began.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let after = server.resources().anonymous;
    figure(
        Kind::Attack,
        73,
        "32 POSTs of 1 MiB over HTTP/2 whose responses are not read, write timeout 300 ms: bodies at a time; growth of RSS at most; after the resets",
        "8; -; <= 4 MiB in 30 s",
        format_args!(
            "{most}; {} KiB; {} KiB in {:.1?}",
            resident.saturating_sub(before),
            after.saturating_sub(before),
            began.elapsed()
        ),
    );
    assert!((1..=8).contains(&most), "{most}");
    assert!(after <= bound, "{after} KiB, {before} KiB before");
}

/// Requests that never send their body, and the statuses of the last `count` of them. The server
/// reads 8 bodies at a time.
async fn unfinished(
    requests: &mut SendRequest<bytes::Bytes>,
    before: usize,
    count: usize,
    fields: usize,
) -> (Vec<h2::SendStream<bytes::Bytes>>, Vec<u16>) {
    let (mut bodies, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..before + count {
        let mut request = Request::post("http://a/").body(()).unwrap();
        for number in 0..fields {
            let name = http::HeaderName::try_from(format!("x{number}")).unwrap();
            request.headers_mut().insert(name, "".parse().unwrap());
        }
        *requests = requests.clone().ready().await.unwrap();
        let (answer, body) = requests.send_request(request, false).unwrap();
        bodies.push(body);
        answers.push(answer);
    }
    let mut statuses = Vec::new();
    for answer in answers.split_off(before) {
        statuses.push(answer.await.unwrap().status().as_u16());
    }
    (bodies, statuses)
}

#[test]
fn a_request_that_waits_for_the_bodies_of_others_gets_503_in_time() {
    let head_timeout = Duration::from_millis(300);
    let server = jmalloc(|server| {
        server.with_http_settings(HttpSettings {
            head_timeout,
            ..HttpSettings::default()
        })
    });
    by_http2(&server, |mut requests| async move {
        let (_, statuses) = unfinished(&mut requests, 8, 12, 0).await;
        assert_eq!(statuses, [503; 12]);
    });
}

/// A head of 16 KiB takes up to 100 kB of memory while its request waits for its body.
#[test]
fn heads_of_waiting_requests_count_as_unfinished() {
    let server = jmalloc(|server| {
        server.with_settings(Settings {
            max_unfinished_size: 1 << 20,
            ..Settings::default()
        })
    });
    by_http2(&server, |mut requests| async move {
        let refused = unfinished(&mut requests, 32, 16, 400);
        // Those that are not refused wait longer than this for their bodies.
        let refused = tokio::time::timeout(Duration::from_secs(5), refused).await;
        let (bodies, statuses) = refused.expect("the requests are refused");
        assert_eq!(statuses, [503; 16]);
        drop(bodies);
        let request = Request::post("http://a/").body(()).unwrap();
        let (response, _) = answer(&mut requests, request, "room again").await;
        assert_eq!(response.status(), 200);
    });
}

/// Neither a pause between events nor a client that reads a response slowly counts as a stalled
/// stream.
#[test]
fn a_stream_with_progress_is_not_reset() {
    let server = hasty();
    with_window(server.address, 20_000, |mut requests| async move {
        let request = Request::get("http://a/.sse").body(()).unwrap();
        let (events, _) = requests.send_request(request, true).unwrap();
        let mut events = events.await.unwrap();
        let large = Request::post("http://a/").body(()).unwrap();
        let (_, text) = answer(&mut requests, large, &"7".repeat(1 << 20)).await;
        assert!(text.len() > 1 << 20);
        let mut text = String::new();
        while text.matches("event: time").count() < 2 {
            let data = events.body_mut().data().await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(&data).unwrap());
        }
    });
}

/// The policy checks the host and the token as with HTTP/1.1.
#[test]
fn the_policy_applies_to_http2() {
    let server = jmalloc(|server| {
        server.with_policy(Policy {
            allowed_hosts: vec!["ours".parse().unwrap()],
            token: Some("secret".parse().unwrap()),
            ..Policy::default()
        })
    });
    by_http2(&server, |mut requests| async move {
        for (target, status) in [
            ("http://theirs/?token=secret", 421),
            ("http://ours/", 401),
            ("http://ours/?token=secret", 200),
        ] {
            let request = Request::get(target).body(()).unwrap();
            let (response, _) = answer(&mut requests, request, "").await;
            assert_eq!(response.status(), status, "{target}");
        }
    });
}

/// The server upgrades only to WebSocket, and only over HTTP/1.1.
#[test]
fn upgrades_to_http2_are_ignored() {
    let server = jmalloc(|server| server);
    let mut client = Client::connect(&server);
    client.send(
        b"GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\
          Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
    );
    let head = client.receive_head();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");

    let mut client = Client::connect(&server);
    client.send(
        request("/up")
            .replace("Upgrade: websocket", "Upgrade: h2c, websocket")
            .as_bytes(),
    );
    let head = client.receive_head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}

#[test]
fn without_compat_jmalloc_http2_is_refused() {
    let server = TestServer::plainly_serving(app::router(), |server| server);
    let mut client = Client::connect(&server);
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.ends();
}

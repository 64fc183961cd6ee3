//! `wss://`: what TLS adds to the wire (attack 45, fault 19, C45, C46). All other tests run through
//! TLS with `FRAMELOOP_TEST_TLS=1`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use frameloop::http::HttpSettings;
use frameloop::tls::Certificate;
use frameloop::{Disconnect, Handler, Message, Router, Settings, WebSocket};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::client::{PATIENCE, close_frame, frame, reply, request};
use crate::process::temporary;
use crate::report::{Kind, figure};
use crate::server::TestServer;

type Secured = StreamOwned<ClientConnection, TcpStream>;

/// A certificate in files, and a client that trusts it.
pub(crate) struct Files {
    directory: std::path::PathBuf,
    pub(crate) der: CertificateDer<'static>,
}

impl Files {
    pub(crate) fn new(name: &str) -> Files {
        let directory = temporary(name);
        std::fs::create_dir_all(&directory).unwrap();
        let mut files = Files {
            directory,
            der: CertificateDer::from(vec![]),
        };
        files.renew();
        files
    }

    /// Replaces it with another certificate for the same names.
    fn renew(&mut self) {
        let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
        std::fs::write(self.directory.join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(
            self.directory.join("key.pem"),
            made.signing_key.serialize_pem(),
        )
        .unwrap();
        self.der = made.cert.der().clone();
    }

    pub(crate) fn read(&self) -> Certificate {
        let path = |name: &str| self.directory.join(name);
        Certificate::read(&path("cert.pem"), &path("key.pem")).unwrap()
    }

    fn client(&self, server: &TestServer) -> std::io::Result<Secured> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        connect(server, roots)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn connect(server: &TestServer, roots: RootCertStore) -> std::io::Result<Secured> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(session, plain(server));
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(stream)
}

fn plain(server: &TestServer) -> TcpStream {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Opens a WebSocket on this stream.
fn open(stream: &mut Secured, path: &str) {
    stream.write_all(request(path).as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
}

fn receives(stream: &mut Secured, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, expected);
}

fn secured(files: &Files) -> TestServer {
    TestServer::plainly_serving(frameloop::app::router(), |server| {
        server.with_certificate(Some(files.read()))
    })
}

#[test]
fn c45_close_is_followed_by_close_notify_and_fin() {
    let files = Files::new("c45");
    let server = secured(&files);
    let mut client = files.client(&server).unwrap();
    open(&mut client, "/echo");
    client
        .write_all(&[frame(0x81, b"hello"), close_frame(1000, b"bye")].concat())
        .unwrap();
    receives(&mut client, &reply(0x81, b"hello"));
    receives(&mut client, &reply(0x88, b"\x03\xE8bye"));
    // FIN without close_notify would be UnexpectedEof.
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

/// A handler that reports how its connection ends.
struct Told(mpsc::Sender<Disconnect>);

impl Handler for Told {
    fn message(&mut self, _: &mut WebSocket<'_>, _: Message<'_>) {}

    fn closed(&mut self, why: &Disconnect) {
        let _ = self.0.send(*why);
    }
}

#[test]
fn c46_fin_without_close_notify_ends_the_connection_normally() {
    let files = Files::new("c46");
    let (sender, told) = mpsc::channel();
    let router = Router::new().websocket("/", move |_| Told(sender.clone()));
    let server =
        TestServer::plainly_serving(router, |server| server.with_certificate(Some(files.read())));
    let mut client = files.client(&server).unwrap();
    open(&mut client, "/");
    client.sock.shutdown(Shutdown::Write).unwrap();
    assert_eq!(
        told.recv_timeout(PATIENCE).unwrap(),
        Disconnect::EndOfStream
    );
}

/// Faults on demand work through TLS, too; no alert comes before a reset.
#[test]
fn a_requested_abort_resets_the_connection_through_tls() {
    let files = Files::new("abort");
    let server = secured(&files);
    let mut stream = files.client(&server).unwrap();
    open(&mut stream, "/echo?abort=1&invalid=rsv1");
    stream.write_all(&frame(0x81, b"a")).unwrap();
    receives(&mut stream, b"\xC1\x01a");
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn fault_19_truncated_and_forged_records_end_only_their_connection() {
    type Damage = fn(&mut Vec<u8>);
    let files = Files::new("records");
    let (sender, told) = mpsc::channel();
    let router = Router::new()
        .websocket("/", move |_| Told(sender.clone()))
        .websocket("/echo", |_| {
            |socket: &mut WebSocket<'_>, message: Message<'_>| socket.send(message)
        });
    let server =
        TestServer::plainly_serving(router, |server| server.with_certificate(Some(files.read())));
    let mut bystander = files.client(&server).unwrap();
    open(&mut bystander, "/echo");
    let record = |client: &mut Secured| {
        client
            .conn
            .writer()
            .write_all(&frame(0x81, b"hello"))
            .unwrap();
        let mut record = Vec::new();
        client.conn.write_tls(&mut record).unwrap();
        record
    };
    let cases: [(Damage, bool); 5] = [
        (|record| record.truncate(1), true),
        (|record| record.truncate(5), true),
        (|record| record.truncate(record.len() - 1), true),
        (
            |record| record.iter_mut().for_each(|byte| *byte ^= 1),
            false,
        ),
        (|record| *record.last_mut().unwrap() ^= 1, false),
    ];
    for (place, (damage, is_cut)) in cases.into_iter().enumerate() {
        let mut client = files.client(&server).unwrap();
        open(&mut client, "/");
        let mut record = record(&mut client);
        damage(&mut record);
        client.sock.write_all(&record).unwrap();
        client.sock.shutdown(Shutdown::Write).unwrap();
        let why = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(why == Disconnect::EndOfStream, is_cut, "{place}: {why:?}");
        assert_eq!(why.code_received(), 1006, "{place}: {why:?}");
        bystander.write_all(&frame(0x81, b"still here")).unwrap();
        receives(&mut bystander, &reply(0x81, b"still here"));
    }
    let mut client = files.client(&server).unwrap();
    open(&mut client, "/echo");
    for byte in record(&mut client) {
        client.sock.write_all(&[byte]).unwrap();
    }
    receives(&mut client, &reply(0x81, b"hello"));
    figure(
        Kind::Fault,
        19,
        "truncated or forged TLS records: their connections; others",
        "1006; served",
        "1006; served",
    );
}

#[test]
fn messages_of_all_sizes_reach_a_slow_reader() {
    let files = Files::new("sizes");
    let server = secured(&files);
    let mut client = files.client(&server).unwrap();
    open(&mut client, "/echo");
    for size in [0, 1, 125, 126, 16_383, 16_384, 16_385, 65_536, 3_000_000] {
        let payload = vec![b'x'; size];
        client.write_all(&frame(0x82, &payload)).unwrap();
        receives(&mut client, &reply(0x82, &payload));
    }
    // More than all buffers on the way hold, while the client does not read.
    let message = frame(0x82, &vec![b'y'; 100_000]);
    let count = 200;
    let mut writer = client.sock.try_clone().unwrap();
    let mut records = Vec::new();
    for _ in 0..count {
        client.conn.writer().write_all(&message[..50_000]).unwrap();
        client.conn.write_tls(&mut records).unwrap();
        while client.conn.wants_write() {
            client.conn.write_tls(&mut records).unwrap();
        }
        client.conn.writer().write_all(&message[50_000..]).unwrap();
        while client.conn.wants_write() {
            client.conn.write_tls(&mut records).unwrap();
        }
    }
    let sending = std::thread::spawn(move || writer.write_all(&records));
    let expected = reply(0x82, &vec![b'y'; 100_000]);
    for _ in 0..count {
        receives(&mut client, &expected);
    }
    sending.join().unwrap().unwrap();
}

#[test]
fn attack_45_input_that_is_not_tls_is_answered_with_an_alert() {
    let files = Files::new("no-tls");
    let server = secured(&files);
    for first in [
        request("/echo").as_bytes(),
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x16\x03\x01\xFF\xFF",
    ] {
        let mut client = plain(&server);
        client.write_all(first).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert!(answer.is_empty() || answer[0] == 0x15, "{answer:02X?}");
        assert!(!answer.starts_with(b"HTTP"));
    }
    figure(
        Kind::Attack,
        45,
        "plain HTTP, an alert, or a record of 65,535 bytes sent to the TLS port: answer",
        "an alert or FIN",
        "an alert or FIN",
    );
}

#[test]
fn attack_45_a_client_hello_in_records_of_one_byte_is_read() {
    let files = Files::new("fragments");
    let server = secured(&files);
    let mut roots = RootCertStore::empty();
    roots.add(files.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // The smallest size that rustls allows, which gives many records per message.
    config.max_fragment_size = Some(32);
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut client = StreamOwned::new(session, plain(&server));
    open(&mut client, "/echo");
    client.write_all(&frame(0x81, b"hello")).unwrap();
    receives(&mut client, &reply(0x81, b"hello"));

    // A ClientHello in records of one byte each is either reassembled or refused at once.
    let mut hello = Vec::new();
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = ClientConnection::new(Arc::clone(client_config()), name).unwrap();
    session.write_tls(&mut hello).unwrap();
    let records: Vec<u8> = hello[5..]
        .iter()
        .flat_map(|byte| [0x16, 0x03, 0x01, 0x00, 0x01, *byte])
        .collect();
    let mut client = plain(&server);
    client.write_all(&records).unwrap();
    let mut first = [0];
    client.read_exact(&mut first).unwrap();
    assert!(matches!(first, [0x15 | 0x16]), "{first:02X?}");
    figure(
        Kind::Attack,
        45,
        "a ClientHello in records of 32 bytes; of one byte",
        "served; served or refused",
        match first {
            [0x16] => "served; served",
            _ => "served; refused by an alert",
        },
    );
}

fn client_config() -> &'static Arc<ClientConfig> {
    static CONFIG: std::sync::OnceLock<Arc<ClientConfig>> = std::sync::OnceLock::new();
    CONFIG.get_or_init(|| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        Arc::new(config)
    })
}

#[test]
fn attack_45_an_unfinished_handshake_ends_at_the_deadline() {
    let files = Files::new("half");
    let timeout = Duration::from_millis(500);
    let server = TestServer::plainly_serving(frameloop::app::router(), |server| {
        server
            .with_certificate(Some(files.read()))
            .with_http_settings(HttpSettings {
                head_timeout: timeout,
                ..HttpSettings::default()
            })
    });
    let took = [&b""[..], b"\x16\x03\x01\x01\x00\x01"].map(|said| {
        let begin = Instant::now();
        let mut client = plain(&server);
        client.write_all(said).unwrap();
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
        begin.elapsed()
    });
    figure(
        Kind::Attack,
        45,
        "no byte, or half a ClientHello, handshake timeout 500 ms (default 10 s): closed",
        "at 0.5 s",
        format_args!("at {:.2?} and {:.2?}", took[0], took[1]),
    );
    for took in took {
        assert!(took >= timeout - Duration::from_millis(50));
    }
}

/// The server does not offer HTTP/2, and refuses its preface before any frame.
#[test]
fn attacks_43_and_44_http_2_is_not_supported() {
    let headers: &[u8] = b"\0\0\x04\x01\x04\0\0\0\x01\x82\x84\x86\x87";
    let reset: &[u8] = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08";
    let continuation: &[u8] = b"\0\0\x01\x09\0\0\0\0\x01\x82";
    let files = Files::new("http2");
    let server = secured(&files);
    let mut config = (**client_config()).clone();
    config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
    let mut roots = RootCertStore::empty();
    roots.add(files.der.clone()).unwrap();
    config.dangerous().set_certificate_verifier(
        rustls::client::WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::new(rustls::crypto::ring::default_provider()),
        )
        .build()
        .unwrap(),
    );
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut client = StreamOwned::new(session, plain(&server));
    client.conn.complete_io(&mut client.sock).unwrap();
    assert_eq!(client.conn.alpn_protocol(), Some(&b"http/1.1"[..]));

    let plainly = TestServer::plainly_serving(frameloop::app::router(), |server| server);
    for (row, what, flood) in [
        (43, "1,000 HEADERS, each reset", [headers, reset].concat()),
        (44, "1,000 CONTINUATIONs", continuation.to_vec()),
    ] {
        let mut client = plain(&plainly);
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        let began = Instant::now();
        client
            .write_all(&[&preface[..], &flood.repeat(1_000)].concat())
            .unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(answer, "", "an answer to HTTP/2");
        figure(
            Kind::Attack,
            row,
            format_args!("HTTP/2 without support for it: preface and {what}: answer"),
            "FIN",
            format_args!("FIN after {:.1?}", began.elapsed()),
        );
    }
}

#[test]
fn fault_19_a_renewed_certificate_serves_new_handshakes_and_drops_no_connection() {
    let mut files = Files::new("renewed");
    let certificate = files.read();
    let server = TestServer::plainly_serving(frameloop::app::router(), |server| {
        server.with_certificate(Some(certificate.clone()))
    });
    let mut before = files.client(&server).unwrap();
    open(&mut before, "/echo");
    let fingerprint = certificate.fingerprint();

    // Invalid files change nothing.
    let key = files.directory.join("key.pem");
    let sound = std::fs::read(&key).unwrap();
    std::fs::write(&key, "no key").unwrap();
    assert!(certificate.reload().is_err());
    assert_eq!(certificate.fingerprint(), fingerprint);
    assert!(files.client(&server).is_ok());
    std::fs::write(&key, sound).unwrap();

    files.renew();
    assert!(
        files.client(&server).is_err(),
        "the new certificate is not in use yet"
    );
    certificate.reload().unwrap();
    assert_ne!(certificate.fingerprint(), fingerprint);
    let mut after = files.client(&server).unwrap();
    open(&mut after, "/echo");
    for client in [&mut before, &mut after] {
        client.write_all(&frame(0x81, b"still here")).unwrap();
        receives(client, &reply(0x81, b"still here"));
    }
}

#[test]
fn a_certificate_without_its_key_is_refused() {
    let (one, other) = (Files::new("one"), Files::new("other"));
    let mixed = Certificate::read(
        &one.directory.join("cert.pem"),
        &other.directory.join("key.pem"),
    );
    assert!(mixed.is_err());
    let missing = Certificate::read(
        &one.directory.join("nothing.pem"),
        &one.directory.join("key.pem"),
    );
    let error = missing.unwrap_err();
    assert!(error.to_string().contains("nothing.pem"), "{error}");
    let empty = one.directory.join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let error = Certificate::read(&empty, &one.directory.join("key.pem")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
}

#[test]
fn a_peer_that_reads_nothing_is_reset() {
    let files = Files::new("stalled");
    let (sender, told) = mpsc::channel();
    let router = Router::new().websocket("/", move |_| Flood(Told(sender.clone())));
    let mut settings = Settings::default();
    settings.deadlines.write_stall = Duration::from_millis(500);
    let server = TestServer::plainly_serving(router, |server| {
        server
            .with_certificate(Some(files.read()))
            .with_settings(settings)
    });
    let mut client = files.client(&server).unwrap();
    open(&mut client, "/");
    client.write_all(&frame(0x82, &[])).unwrap();
    let why = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        why,
        Disconnect::TimedOut(frameloop::engine::Timeout::WriteStall)
    );
}

/// Answers with more than all buffers hold.
struct Flood(Told);

impl Handler for Flood {
    fn message(&mut self, socket: &mut WebSocket<'_>, _: Message<'_>) {
        socket.send(Message::Binary(&vec![0; 32 << 20]));
    }

    fn closed(&mut self, why: &Disconnect) {
        self.0.closed(why);
    }
}

//! What a user can ask for.

use crate::process::{ServerProcess, temporary};
use crate::{Temporary, load};

#[test]
fn echoes_of_every_size_and_kind_come_back_whole() {
    let server = ServerProcess::start(&[]);
    let url = format!("ws://{}/echo", server.address);
    for arguments in [
        "-c 3 --messages 300",
        "-c 3 --messages 300 -d 16 -s 20",
        "-c 2 --messages 301 -d 7 -s 0..70000",
        "-c 2 --messages 100 -s 0",
        "-c 2 --messages 100 -s 7 --text",
        "-c 2 --messages 100 -s 8 --text -d 3",
        "-c 2 --messages 100 -s 16..300 --text=multibyte",
        "-c 2 --messages 100 -s 1000 --fragment 16",
        "-c 2 --messages 100 -s 100000 --fresh-masks -d 4",
        "-c 2 --messages 100 -s 1MiB --check first",
        "-c 5 --messages 1000 --threads 2 -d 5 --check none",
        "-c 5 --messages 100 --rate 100000 --threads 2",
        "-c 2 --messages 10 --subprotocol chat --header Cookie:a=b",
        "-c 3 --messages 30 --source 127.1.0.1-127.1.0.3",
        "-c 3 --messages 30 --ramp 50ms",
        "-c 3 --messages 90 --deflate -d 2",
        "-c 3 --messages 90 --deflate-fresh -d 2",
        "-c 3 --messages 90 --deflate-fresh --text -s 20..200KiB -d 3",
        "-c 3 --messages 90 --deflate --text -s 20..20KiB",
    ] {
        let ran = load(&url, arguments);
        let asked = arguments.split("--messages ").nth(1).unwrap();
        let asked: u64 = asked.split(' ').next().unwrap().parse().unwrap();
        let sent = format!(
            "messages     {} sent, {} received",
            thousands(asked),
            thousands(asked)
        );
        assert!(
            ran.is_clean().report.contains(&sent),
            "{arguments}: {}",
            ran.report
        );
    }
}

fn thousands(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", number / 1_000, number % 1_000),
    }
}

#[test]
fn connect_and_churn_open_connections() {
    let server = ServerProcess::start(&[]);
    let url = format!("ws://{}/echo", server.address);
    let ran = load(&url, "--connect -c 4 --messages 100");
    assert!(
        ran.is_clean().report.contains("connections  100 opened"),
        "{}",
        ran.report
    );
    let ran = load(&url, "--churn -c 4 --messages 100 -d 3");
    assert!(
        ran.is_clean().report.contains("connections  100 opened"),
        "{}",
        ran.report
    );
    assert!(
        ran.report.contains("300 sent, 300 received"),
        "{}",
        ran.report
    );
    let ran = load(&url, "--churn -c 4 --messages 100 --rate 10000");
    assert!(
        ran.is_clean().report.contains("connections  100 opened"),
        "{}",
        ran.report
    );
}

#[test]
fn idle_connections_stay_and_the_server_is_watched() {
    let server = ServerProcess::start(&[]);
    let url = format!("ws://{}/echo", server.address);
    let ran = load(
        &url,
        &format!("--idle -c 100 -t 300ms --pid {}", server.id()),
    );
    let report = &ran.is_clean().report;
    for words in [
        "connections  100 open\n",
        "100 sent, 100 received",
        "B a connection",
        "descriptors",
    ] {
        assert!(report.contains(words), "{words}: {report}");
    }
}

#[test]
fn a_unix_socket_is_loaded() {
    let path = temporary("load");
    let listen = format!("127.0.0.1:0,unix:{}", path.display());
    let _server = ServerProcess::start(&["--listen", &listen]);
    load(
        &format!("unix:{}:/echo", path.display()),
        "-c 3 --messages 300 -d 2",
    )
    .is_clean();
    let _ = std::fs::remove_file(path);
}

/// An open loop sends what is due while the server is frozen.
#[test]
fn an_open_loop_sends_what_is_due() {
    let server = ServerProcess::start(&[]);
    let url = format!("ws://{}/echo?delay=200", server.address);
    let ran = load(&url, "-c 2 --rate 500 --messages 100");
    assert!(
        ran.is_clean().report.contains("100 sent, 100 received"),
        "{}",
        ran.report
    );
    assert!(ran.report.contains("\nresponse  "), "{}", ran.report);
    assert!(!ran.report.contains("closed loop"), "{}", ran.report);
}

#[test]
fn a_broadcast_reaches_every_member() {
    let server = ServerProcess::start(&["--max-publish-rate", "0"]);
    for (topic, arguments, counted) in [
        ("a", "-c 20 --messages 50 -s 100", "50 sent, 1,000 received"),
        (
            "b",
            "-c 20 --messages 48 -s 100 -d 16",
            "48 sent, 960 received",
        ),
        (
            "c",
            "-c 20 --messages 50 --publishers 3 --text",
            "50 sent, 1,000 received",
        ),
        (
            "d",
            "-c 20 --messages 60 --publishers 4 --threads 3 -d 2",
            "60 sent, 1,200 received",
        ),
        (
            "e",
            "-c 20 --messages 50 --rate 1000 --publishers 2",
            "50 sent, 1,000 received",
        ),
        ("f", "-c 20 --messages 50 -s 4", "50 sent, 1,000 received"),
    ] {
        let url = format!("ws://{}/broadcast/{topic}", server.address);
        let ran = load(&url, &format!("--broadcast {arguments}"));
        assert!(
            ran.is_clean().report.contains(counted),
            "{arguments}: {}",
            ran.report
        );
        assert!(
            ran.report.contains("reach        100.0000 %"),
            "{}",
            ran.report
        );
        assert!(ran.report.contains("\nto the last "), "{}", ran.report);
    }
}

/// A server that sends a publication to its publisher only reaches one member of four.
#[test]
fn a_broadcast_that_reaches_one_of_four_says_so() {
    let server = ServerProcess::start(&[]);
    let url = format!("ws://{}/echo", server.address);
    let ran = load(&url, "--broadcast -c 4 --messages 2 -s 100 --timeout 300ms");
    ran.tells(&["6 lost (6 timed out)"]);
    assert!(
        ran.report.contains("reach        25.0000 %"),
        "{}",
        ran.report
    );
}

#[test]
fn tls_needs_a_certificate_that_is_trusted() {
    let server = ServerProcess::start(&["--tls-self-signed"]);
    let url = format!("wss://{}/echo", server.address);
    for arguments in [
        "-c 3 --messages 60 -s 20 -d 16",
        "-c 2 --messages 20 -s 300KiB -d 2",
        "-c 2 --messages 50 --rate 1000",
        "--churn -c 2 --messages 10",
        "--connect -c 2 --messages 10",
        "--idle -c 3 -t 100ms",
    ] {
        let ran = load(&url, &format!("{arguments} --insecure"));
        assert!(ran.is_clean().report.contains("\nTLS  "), "{}", ran.report);
    }
    let ran = load(&url, "-c 2 --messages 2");
    assert_eq!(ran.code, Some(3));
    let words = "no WebSocket could be opened: unknown issuer: use --cacert FILE or --insecure";
    assert!(ran.said.contains(words), "{}", ran.said);
}

/// `openssl req -x509` makes a certificate of an authority unless it is told otherwise.
#[test]
fn a_certificate_of_an_authority_is_refused_with_advice() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec![String::from("127.0.0.1")]).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let made = parameters.self_signed(&key).unwrap();
    let (certificate, secret) = (Temporary::new("ca.pem"), Temporary::new("ca.key"));
    std::fs::write(&certificate.0, made.pem()).unwrap();
    std::fs::write(&secret.0, key.serialize_pem()).unwrap();
    let (pem, key) = (certificate.path(), secret.path());
    let server = ServerProcess::start(&["--tls-cert", &pem, "--tls-key", &key]);
    let url = format!("wss://{}/echo", server.address);
    let ran = load(&url, &format!("-c 2 --messages 2 --cacert {pem}"));
    assert_eq!(ran.code, Some(3));
    let words = "make it with -addext basicConstraints=critical,CA:FALSE, or use --insecure";
    assert!(ran.said.contains(words), "{}", ran.said);
}

#[test]
fn a_file_of_messages_is_sent_as_it_is() {
    let server = ServerProcess::start(&[]);
    let url = format!("ws://{}/echo", server.address);
    let file = Temporary::new("lines");
    std::fs::write(&file.0, "{\"id\": 1}\n\nsome text\n").unwrap();
    let ran = load(
        &url,
        &format!("-c 2 --messages 100 -d 4 --text --file {}", file.path()),
    );
    assert!(
        ran.is_clean().report.contains("3 messages of a file, text"),
        "{}",
        ran.report
    );
    assert!(ran.report.contains("carry no number"), "{}", ran.report);
    std::fs::write(&file.0, b"\0\0\0\x02\xFF\0\0\0\0\x01x").unwrap();
    let ran = load(
        &url,
        &format!("-c 2 --messages 100 --records --file {}", file.path()),
    );
    assert!(
        ran.is_clean()
            .report
            .contains("2 messages of a file, binary"),
        "{}",
        ran.report
    );
}

//! The binary under a service manager, in a container and in a shell: passed sockets, readiness,
//! health checks, completions, manual page.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use client::{LONG_PATIENCE, open};
use process::{FRAMELOOP, ServerProcess, command_under, frameloop, run, succeeds, temporary};
use rustix::process::Signal;
use support::*;
use tungstenite::Message;

/// A script with `frameloop` as `$0`.
fn shell(script: &str) -> Command {
    command_under(&["sh", "-c", script], &[])
}

/// `frameloop` started as by a socket unit: descriptor 3 is the listening socket.
fn activated(socket: OwnedFd) -> Command {
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" --listen systemd 3<&0 </dev/null";
    let mut command = shell(script);
    command.stdin(socket);
    command
}

fn echo(address: SocketAddr) {
    let mut client = open(address, "/echo").unwrap();
    client.send(Message::text("hi")).unwrap();
    assert_eq!(client.read().unwrap(), Message::text("hi"));
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_passed_socket_loses_no_client_between_two_servers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for _ in 0..2 {
        // This client connects while no server runs.
        let early = TcpStream::connect(address).unwrap();
        early.set_read_timeout(Some(LONG_PATIENCE)).unwrap();
        let served = ServerProcess::spawn(&mut activated(listener.try_clone().unwrap().into()));
        assert_eq!(served.address, address);
        let mut client = client::open_on(early, "/echo").unwrap();
        client.send(Message::text("early")).unwrap();
        assert_eq!(client.read().unwrap(), Message::text("early"));
        client.close(None).unwrap();
        while client.read().is_ok() {}
        echo(address);
        served.signal(Signal::TERM);
        assert!(served.ended().success());
    }
}

/// During a drain the server does not accept on a passed socket: a new client waits for the next
/// server.
#[test]
fn a_client_that_connects_during_a_drain_waits_for_the_next_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = activated(listener.try_clone().unwrap().into());
    let served = ServerProcess::spawn(command.env("FRAMELOOP_WORKERS", "1"));
    let mut client = open(served.address, "/echo").unwrap();
    served.signal(Signal::TERM);
    assert!(client.read().unwrap().is_close());
    let mut late = TcpStream::connect(served.address).unwrap();
    late.write_all(b"late").unwrap();
    client.flush().unwrap();
    assert!(served.ended().success());
    // The previous server has made the socket non-blocking.
    let (mut waiting, _) = listener.accept().unwrap();
    waiting.set_nonblocking(false).unwrap();
    let mut bytes = [0; 4];
    waiting.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"late");
}

#[test]
fn a_passed_unix_socket_keeps_its_file() {
    let path = temporary("passed.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut command = activated(listener.into());
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let address = format!("unix:{}", path.display());
    is_healthy(&mut frameloop(&["healthcheck", &address]));
    process::signal_to(child.id(), Signal::TERM);
    assert!(child.wait().unwrap().success());
    assert!(
        path.exists(),
        "the file belongs to the socket unit, but was removed"
    );
    std::fs::remove_file(path).unwrap();
}

#[test]
fn without_a_passed_socket_it_exits_with_3() {
    for variables in ["", "LISTEN_PID=1 LISTEN_FDS=1"] {
        let script = format!("{variables} exec \"$0\" --listen systemd");
        let (code, _, error) = run(&mut shell(&script));
        assert_eq!(code, Some(3), "{variables}");
        assert!(error.contains("--listen"), "{error}");
    }
    // Here descriptor 3 is a file.
    let file = std::fs::File::open("/dev/null").unwrap();
    let (code, _, error) = run(&mut activated(file.into()));
    assert_eq!(code, Some(3), "{error}");
}

#[test]
fn the_service_manager_is_notified_of_readiness_and_of_stopping() {
    let path = temporary("notify.sock");
    let notices = UnixDatagram::bind(&path).unwrap();
    notices.set_read_timeout(Some(LONG_PATIENCE)).unwrap();
    let told = || {
        let mut notice = [0; 256];
        let length = notices.recv(&mut notice).unwrap();
        text(&notice[..length]).to_owned()
    };
    let mut command = frameloop(&[]);
    let server = ServerProcess::spawn(command.env("NOTIFY_SOCKET", &path));
    assert_eq!(told().trim_end(), "READY=1");
    echo(server.address);
    server.signal(Signal::TERM);
    assert_eq!(told().trim_end(), "STOPPING=1");
    assert!(server.ended().success());
    std::fs::remove_file(path).unwrap();
}

#[track_caller]
fn is_healthy(healthcheck: &mut Command) {
    let (code, _, error) = run(healthcheck);
    assert_eq!(code, Some(0), "{error}");
}

#[test]
fn a_healthcheck_reports_by_its_exit_code() {
    let cases: [(&[&str], &[&str]); 3] = [
        (&[], &[]),
        (&["--allow-host", "example.com"], &["--host", "example.com"]),
        (&["--tls-self-signed"], &[]),
    ];
    for (its, asked) in cases {
        let server = ServerProcess::start(its);
        let address = server.address.to_string();
        is_healthy(frameloop(&["healthcheck", &address]).args(asked));
        // A stopped process does not answer.
        server.signal(Signal::STOP);
        let mut frozen = frameloop(&["healthcheck", &address, "--timeout", "100ms"]);
        assert_eq!(run(frozen.args(asked)).0, Some(1), "{its:?}");
        drop(server);
        let (code, _, error) = run(frameloop(&["healthcheck", &address]).args(asked));
        assert_eq!(code, Some(1), "{its:?}");
        assert!(error.starts_with("frameloop: not healthy: "), "{error}");
    }
}

#[test]
fn a_healthcheck_reads_the_variables_of_its_server() {
    let server = ServerProcess::start(&["--allow-host", "example.com"]);
    let port = server.address.port();
    is_healthy(
        frameloop(&["healthcheck"])
            .env("FRAMELOOP_LISTEN", format!("0.0.0.0:{port},unix:/nowhere"))
            .env("FRAMELOOP_ALLOW_HOST", "example.com,example.org"),
    );
    // The variables of the compat service set the address, too.
    is_healthy(
        frameloop(&["healthcheck", "--host", "example.com"])
            .env("FRAMELOOP_COMPAT", "jmalloc")
            .env("PORT", port.to_string()),
    );
    // With an admin address, the health check asks there.
    let admin = format!("unix:{}", temporary("health").display());
    let _other = ServerProcess::start(&["--admin-listen", &admin]);
    let asked = |arguments: &[&str]| {
        let mut command = frameloop(&["healthcheck"]);
        command
            .env("FRAMELOOP_LISTEN", "systemd")
            .env("FRAMELOOP_ADMIN_LISTEN", &admin);
        run(command.args(arguments)).0
    };
    assert_eq!(asked(&[]), Some(0));
    let named = asked(&["127.0.0.1:1"]);
    assert_eq!(named, Some(1), "a named address was not asked");
    // A probe is answered for any host, because the kubelet sends the pod's address.
    let mut probe = std::net::TcpStream::connect(server.address).unwrap();
    let request = b"GET /readyz HTTP/1.1\r\nHost: 10.1.2.3:8000\r\nConnection: close\r\n\r\n";
    probe.write_all(request).unwrap();
    let mut answer = String::new();
    probe.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let listen = server.address.to_string();
    is_healthy(frameloop(&["healthcheck"]).env("FRAMELOOP_LISTEN", listen));
}

#[test]
fn completion_scripts_are_valid_in_their_shells() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, completions, _) = run(&mut frameloop(&["completions", shell]));
        assert_eq!(code, Some(0), "{shell}");
        for word in ["healthcheck", "max-message-size"] {
            assert!(completions.contains(word), "{shell}: no {word}");
        }
        if ["bash", "fish", "zsh"].contains(&shell) && succeeds(shell, &["-c", ":"]) {
            let path = temporary(shell);
            std::fs::write(&path, &completions).unwrap();
            assert!(succeeds(shell, &["-n", path.to_str().unwrap()]), "{shell}");
            std::fs::remove_file(path).unwrap();
        }
    }
    // Bash completes with the script.
    let script = "eval \"$(\"$0\" completions bash)\"; COMP_WORDS=(frameloop --max-mess); \
                  COMP_CWORD=1; _frameloop frameloop --max-mess frameloop; echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["-c", script, FRAMELOOP]);
    if let Ok(completed) = bash.output() {
        assert!(text(&completed.stdout).contains("--max-message-size"));
    }
    let (code, _, error) = run(&mut frameloop(&["completions", "tcsh"]));
    assert_eq!(code, Some(2));
    assert!(error.contains("bash"), "{error}");
}

#[test]
fn the_manual_page_has_every_flag_and_valid_syntax() {
    let (_, page, _) = run(&mut frameloop(&["man"]));
    let (_, settings, _) = run(&mut frameloop(&["--print-config"]));
    let plain = page.replace('\\', "");
    for line in settings.lines() {
        let (flag, _) = line.split_once(" = ").unwrap();
        let variable = flag.to_uppercase().replace('-', "_");
        assert!(plain.contains(&format!("--{flag}")), "{flag}");
        assert!(plain.contains(&format!("FRAMELOOP_{variable}")), "{flag}");
    }
    let path = temporary("frameloop.1");
    std::fs::write(&path, &page).unwrap();
    let arguments = ["-man", "-ww", "-z", "-Tutf8", path.to_str().unwrap()];
    if let Ok(Output { status, stderr, .. }) = Command::new("groff").args(arguments).output() {
        assert!(status.success());
        assert_eq!(text(&stderr), "");
    }
    std::fs::remove_file(path).unwrap();
}

mod tls {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::path::Path;

    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConnection, StreamOwned};

    use super::*;

    type Secured = StreamOwned<ClientConnection, TcpStream>;

    #[test]
    fn sighup_reloads_the_certificate_and_drops_no_connection() {
        let directory = temporary("hup");
        std::fs::create_dir_all(&directory).unwrap();
        let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
        let first = write_certificate(&directory);
        let arguments = [
            "--tls-cert",
            &path("cert.pem"),
            "--tls-key",
            &path("key.pem"),
        ];
        let mut server = ServerProcess::logging(&arguments);
        let mut log = BufReader::new(server.stderr()).lines();
        let mut before = connect(server.address);
        assert_eq!(certificate_of(&before), first);

        let second = write_certificate(&directory);
        assert_eq!(
            certificate_of(&connect(server.address)),
            first,
            "the certificate was not read"
        );
        server.signal(Signal::HUP);
        log.find(|line| line.as_ref().unwrap().contains("read again"))
            .unwrap()
            .unwrap();
        let mut after = connect(server.address);
        assert_eq!(certificate_of(&after), second);
        for client in [&mut before, &mut after] {
            client.write_all(&client::frame(0x81, b"hi")).unwrap();
            let mut echo = [0; 4];
            client.read_exact(&mut echo).unwrap();
            assert_eq!(echo, *b"\x81\x02hi");
        }
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn the_printed_fingerprint_matches_the_served_certificate() {
        let mut server = ServerProcess::start(&["--tls-self-signed"]);
        let printed = server.stdout.by_ref().lines().find_map(|line| {
            let line = line.unwrap();
            Some(line.strip_prefix("Certificate (SHA-256): ")?.to_owned())
        });
        let served = certificate_of(&connect(server.address));
        let digest = ::ring::digest::digest(&::ring::digest::SHA256, &served);
        let pairs: Vec<_> = digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        assert_eq!(printed.unwrap(), pairs.join(":"));
    }

    /// A new certificate and its key, in files.
    fn write_certificate(directory: &Path) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
        std::fs::write(directory.join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(directory.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    }

    /// An open WebSocket at `/echo`.
    fn connect(address: SocketAddr) -> Secured {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG_PATIENCE)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(tls_client::config(), name).unwrap();
        let mut stream = StreamOwned::new(session, stream);
        stream
            .write_all(client::request("/echo").as_bytes())
            .unwrap();
        let head = client::receive_head(&mut stream).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "));
        stream
    }

    fn certificate_of(stream: &Secured) -> CertificateDer<'static> {
        stream.conn.peer_certificates().unwrap()[0].clone()
    }
}

#[test]
fn the_log_names_the_client_behind_a_proxy() {
    let server = ServerProcess::logging(&["--proxy-protocol-from", "127.0.0.0/8,::1"]);
    let mut stream = client::connect(server.address, LONG_PATIENCE).unwrap();
    let header = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\r\n";
    stream.write_all(header).unwrap();
    let mut client = client::open_on(stream, "/echo").unwrap();
    client.close(None).unwrap();
    while client.read().is_ok() {}
    server.signal(Signal::TERM);
    let (_, log) = server.ended_with_log();
    let line = log.lines().find(|line| line.contains("203.0.113.7:4711"));
    let line = line.unwrap_or_else(|| panic!("no line in {log}"));
    assert!(line.contains("/echo"), "{line}");
}

/// The reader of standard output may have closed it.
#[test]
fn a_closed_standard_output_is_an_error_and_not_a_panic() {
    for command in [&["man"][..], &["completions", "bash"]] {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let mut command_line = frameloop(command);
        command_line.stdout(full.unwrap()).stderr(Stdio::piped());
        let Output { status, stderr, .. } = command_line.output().unwrap();
        assert_eq!(status.code(), Some(1), "{command:?}");
        assert!(text(&stderr).starts_with("frameloop: cannot print"));
    }
}

#[test]
fn a_healthcheck_obeys_its_timeout() {
    // The kernel accepts connections, but no process answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let began = std::time::Instant::now();
    let (code, ..) = run(&mut frameloop(&[
        "healthcheck",
        &address,
        "--timeout",
        "50ms",
    ]));
    assert_eq!(code, Some(1));
    assert!(began.elapsed() < LONG_PATIENCE + Duration::from_millis(50));
}

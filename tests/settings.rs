//! Settings of the binary: their values, and the messages for invalid ones.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "support/mod.rs"]
mod support;

use std::io::{BufRead, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use client::Client;
use nginx::Nginx;
use process::{ServerProcess, command_under, frameloop, succeeds, temporary};
use report::{Kind, skip};
use support::*;

/// The exit code, and everything on both outputs.
fn run(command: &mut Command) -> (Option<i32>, String) {
    let (code, said, error) = process::run(command);
    (code, said + &error)
}

/// Asserts that `--print-config` prints these lines.
#[track_caller]
fn has_settings(command: &mut Command, lines: &[&str]) {
    let (code, settings) = run(command.arg("--print-config"));
    assert_eq!(code, Some(0), "{settings}");
    for line in lines {
        let is_there = settings.lines().any(|found| found == *line);
        assert!(is_there, "{line} in:\n{settings}");
    }
}

/// Asserts that the exit code is 2 and the output contains all these texts.
#[track_caller]
fn is_refused(command: &mut Command, parts: &[&str]) {
    let (code, message) = run(command);
    assert_eq!(code, Some(2), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part} in: {message}");
    }
}

fn variables_of_all_flags() -> Vec<String> {
    let (_, settings) = run(&mut frameloop(&["--print-config"]));
    let flags = settings
        .lines()
        .map(|line| line.split_once(" = ").unwrap().0);
    flags
        .map(|flag| format!("FRAMELOOP_{}", flag.to_uppercase().replace('-', "_")))
        .collect()
}

#[test]
fn an_empty_variable_is_unset() {
    let (_, defaults) = run(&mut frameloop(&["--print-config"]));
    let mut command = frameloop(&["--print-config"]);
    let all = variables_of_all_flags();
    assert!(all.len() > 40, "{all:?}");
    for variable in all.iter().filter(|name| *name != "FRAMELOOP_TOKEN") {
        command.env(variable, "");
    }
    assert_eq!(run(&mut command), (Some(0), defaults));
    // The health check has variables, too, and the help still lists all of them.
    let mut help = frameloop(&["serve", "--help-all"]);
    help.env("FRAMELOOP_TLS_CERT", "");
    let (code, help) = run(&mut help);
    assert_eq!(code, Some(0));
    assert!(help.contains("[env: FRAMELOOP_TLS_CERT]"), "{help}");
    let server = ServerProcess::start(&[]);
    let mut healthcheck = frameloop(&["healthcheck"]);
    healthcheck
        .env("FRAMELOOP_LISTEN", server.address.to_string())
        .envs(["TIMEOUT", "X"].map(|name| (format!("FRAMELOOP_HEALTHCHECK_{name}"), "")))
        .envs(
            ["ADMIN_LISTEN", "ALLOW_HOST", "COMPAT"].map(|name| (format!("FRAMELOOP_{name}"), "")),
        );
    assert_eq!(run(&mut healthcheck), (Some(0), String::new()));
}

#[test]
fn an_empty_token_is_refused_with_the_name_of_its_variable() {
    is_refused(
        frameloop(&["--listen", "127.0.0.1:0"]).env("FRAMELOOP_TOKEN", ""),
        &["FRAMELOOP_TOKEN"],
    );
}

#[test]
fn no_error_shows_a_secret() {
    const SECRET: &str = "s3cret!";
    let listen = ["--listen", "127.0.0.1:0"];
    let url = format!("redis:/x:{SECRET}@127.0.0.1");
    for arguments in [
        &["--token", SECRET][..],
        &["--token=s3cret!"],
        &["--tokn=s3cret!"],
        &["--token", SECRET, "--nope"],
        &["--token", "", "--nope"],
        &["--token", SECRET, "--token", SECRET],
        &["--token", SECRET, "--workers", "many"],
        &["serve", "--token", SECRET],
        &["--socketio-redis", &url],
        &["--channel-layer", "django", "--redis-url", &url],
    ] {
        let (code, message) = run(frameloop(arguments).args(listen));
        assert_eq!(code, Some(2), "{arguments:?}: {message}");
        assert!(!message.contains(SECRET), "{arguments:?}: {message}");
    }
    for variable in ["TOKEN", "SOCKETIO_REDIS"].map(|name| format!("FRAMELOOP_{name}")) {
        let (code, message) = run(frameloop(&listen).env(&variable, SECRET));
        assert_eq!(code, Some(2), "{message}");
        assert!(!message.contains(SECRET), "{message}");
        assert!(message.contains(&variable), "{message}");
    }
}

#[test]
fn an_invalid_value_is_reported_with_the_name_of_its_variable() {
    for (variable, value) in [
        ("FRAMELOOP_WORKERS", "many"),
        ("FRAMELOOP_LISTEN", "8000"),
        ("FRAMELOOP_NO_FAULTS", "maybe"),
        ("FRAMELOOP_ALLOW_ORIGIN", "example.com"),
        ("FRAMELOOP_PING_INTERVAL", "1d"),
        ("FRAMELOOP_MAX_HEADERS", "x"),
        ("FRAMELOOP_PROXY_PROTOCOL_FROM", "10.0.0.0/99"),
        ("FRAMELOOP_CHANNEL_LAYER", "x"),
        ("FRAMELOOP_SOCKETIO_REDIS", "x"),
        ("FRAMELOOP_LOG_FORMAT", "xml"),
        ("FRAMELOOP_COMPAT", "httpbun"),
        // The server needs a value that is missing; no value is invalid.
        ("FRAMELOOP_TLS_CERT", "/nowhere.pem"),
    ] {
        is_refused(frameloop(&[]).env(variable, value), &[variable]);
        is_refused(frameloop(&["serve"]).env(variable, value), &[variable]);
    }
    let both = ("FRAMELOOP_WORKERS", "FRAMELOOP_DETERMINISTIC");
    let mut command = frameloop(&[]);
    is_refused(command.env(both.0, "2").env(both.1, "1"), &[both.0, both.1]);
    let mut command = frameloop(&["--channel-layer", "redis-core"]);
    let url = "FRAMELOOP_REDIS_URL";
    is_refused(command.env(url, "x"), &["--redis-url", url]);
    let mut command = frameloop(&["--listen", "127.0.0.1:0"]);
    command.env("FRAMELOOP_TLS_CERT", "/nowhere/cert.pem");
    command.env("FRAMELOOP_TLS_KEY", "/nowhere/key.pem");
    is_refused(&mut command, &["FRAMELOOP_TLS_CERT", "FRAMELOOP_TLS_KEY"]);

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for variable in ["FRAMELOOP_LISTEN", "FRAMELOOP_ADMIN_LISTEN"] {
        let mut command = frameloop(&[]);
        command.env("FRAMELOOP_LISTEN", "127.0.0.1:0");
        let (code, message) = run(command.env(variable, &address));
        assert_eq!(code, Some(3));
        assert!(message.contains(variable), "{message}");
    }
    // The variables of a compat service.
    for (service, variable) in [
        ("jmalloc", "PORT"),
        ("lpinca", "BIND_PORT"),
        ("lpinca", "HEARTBEAT_INTERVAL"),
        ("lpinca", "MAX_MESSAGE_SIZE"),
        ("lpinca", "HIGH_WATER_MARK"),
        ("httpbin", "PORT"),
    ] {
        let mut command = frameloop(&["--compat", service]);
        is_refused(command.env(variable, "many"), &[variable]);
    }
}

#[test]
fn an_invalid_flag_is_not_blamed_on_a_variable() {
    for flag in [&["--workers", "many"][..], &["--workers=many"]] {
        let mut command = frameloop(flag);
        let (code, message) = run(command.env("FRAMELOOP_WORKERS", "2"));
        assert_eq!(code, Some(2));
        assert!(!message.contains("FRAMELOOP_WORKERS"), "{message}");
    }
}

#[test]
fn a_boolean_flag_is_printed_as_true_or_false() {
    for (value, printed) in [
        ("0", "false"),
        ("no", "false"),
        ("1", "true"),
        ("on", "true"),
    ] {
        let mut command = frameloop(&[]);
        command
            .env("FRAMELOOP_NO_FAULTS", value)
            .env("FRAMELOOP_REQUIRE_ORIGIN", value)
            .env("FRAMELOOP_SOCKETIO_DEFLATE", value);
        let lines = [
            format!("no-faults = {printed}"),
            format!("require-origin = {printed}"),
            format!("socketio-deflate = {printed}"),
            String::from("deterministic = false"),
        ];
        has_settings(&mut command, &lines.each_ref().map(String::as_str));
    }
    has_settings(&mut frameloop(&["--no-faults"]), &["no-faults = true"]);
}

#[test]
fn a_list_in_a_variable_may_have_spaces_after_its_commas() {
    let mut command = frameloop(&[]);
    command
        .env("FRAMELOOP_LISTEN", "127.0.0.1:8001, unix:/tmp/x,mode=0600")
        .env(
            "FRAMELOOP_ALLOW_ORIGIN",
            "https://a.example, https://b.example",
        )
        .env("FRAMELOOP_ALLOW_HOST", "a.example , b.example")
        .env("FRAMELOOP_PROXY_PROTOCOL_FROM", "10.0.0.0/8, 192.0.2.1");
    let lines = [
        "listen = 127.0.0.1:8001, unix:/tmp/x,mode=0600",
        "allow-origin = https://a.example,https://b.example",
        "allow-host = a.example,b.example",
        "proxy-protocol-from = 10.0.0.0/8,192.0.2.1",
    ];
    has_settings(&mut command, &lines);
}

#[test]
fn durations_may_have_fractions() {
    let mut command = frameloop(&["--linger", "0.5s", "--ping-interval", "1.5m"]);
    has_settings(&mut command, &["linger = 0.5s", "ping-interval = 1.5m"]);
}

#[test]
fn a_healthcheck_of_a_server_behind_proxies_sends_a_proxy_header() {
    for networks in ["127.0.0.0/8", "192.0.2.0/24, 127.0.0.1", "::1,0.0.0.0/0"] {
        let admin = temporary("behind-proxies-admin");
        let admin = format!("unix:{}", admin.display());
        let arguments = ["--proxy-protocol-from", networks, "--admin-listen", &admin];
        let server = ServerProcess::start(&arguments);
        let asked = |address: &str, networks: &str| {
            let mut command = frameloop(&["healthcheck"]);
            command
                .env("FRAMELOOP_LISTEN", address)
                .env("FRAMELOOP_PROXY_PROTOCOL_FROM", networks);
            run(&mut command).0
        };
        let port = server.address.port();
        for address in [server.address.to_string(), format!("0.0.0.0:{port}")] {
            assert_eq!(asked(&address, networks), Some(0), "{networks}");
            assert_eq!(
                asked(&address, ""),
                Some(1),
                "the server accepted an invalid header"
            );
        }
        let mut command = frameloop(&["healthcheck"]);
        command
            .env("FRAMELOOP_ADMIN_LISTEN", &admin)
            .env("FRAMELOOP_PROXY_PROTOCOL_FROM", networks);
        assert_eq!(run(&mut command).0, Some(0), "the operator's address");
    }
    // The admin address speaks plain HTTP without the PROXY protocol, over TCP, too.
    let arguments = [
        "--proxy-protocol-from",
        "127.0.0.0/8",
        "--log-format",
        "json",
    ];
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = free.local_addr().unwrap().to_string();
    drop(free);
    let server = ServerProcess::start(&[&arguments[..], &["--admin-listen", &admin]].concat());
    let mut command = frameloop(&["healthcheck"]);
    command
        .env("FRAMELOOP_ADMIN_LISTEN", &admin)
        .env("FRAMELOOP_LISTEN", server.address.to_string())
        .env("FRAMELOOP_PROXY_PROTOCOL_FROM", "127.0.0.0/8");
    assert_eq!(run(&mut command), (Some(0), String::new()));
    // Any other name does not answer like the admin address.
    let address = server.address.to_string();
    command.arg(&address);
    assert_eq!(run(&mut command), (Some(0), String::new()));
}

/// Each common problem of a certificate or key has its own message.
#[test]
fn an_unusable_certificate_or_key_is_reported_with_the_reason() {
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/keys");
    let sound = |name: &str| std::fs::read(format!("{keys}/{name}.pem")).unwrap();
    let made = |name: &str, bytes: &[u8]| {
        let path = temporary(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let bom = |name: &str| [b"\xEF\xBB\xBF", &sound(name)[..]].concat();
    let utf_16: Vec<u8> = [0xFF, 0xFE]
        .into_iter()
        .chain(sound("cert").into_iter().flat_map(|byte| [byte, 0]))
        .collect();
    let cert = format!("{keys}/cert.pem");
    let key = |name: &str| format!("{keys}/{name}.pem");
    for (cert, key, sentence) in [
        (&cert, key("passphrase"), "the key has a passphrase"),
        (&cert, key("passphrase_sec1"), "the key has a passphrase"),
        (
            &cert,
            key("p521"),
            "on the curve P-521, which is not supported",
        ),
        (
            &cert,
            key("secp256k1"),
            "on the curve secp256k1, which is not",
        ),
        (
            &cert,
            key("ed448"),
            "on the curve Ed448, which is not supported",
        ),
        (
            &cert,
            key("rsa1024"),
            "an RSA key must have 2048 to 4096 bits",
        ),
        (
            &cert,
            made("bom-key.pem", &bom("key")),
            "byte order mark (BOM)",
        ),
        (
            &made("bom.pem", &bom("cert")),
            key("key"),
            "byte order mark (BOM)",
        ),
        (&made("16.pem", &utf_16), key("key"), "the file is UTF-16"),
        (
            &made("cert.der", b"\x30\x82\x01\x7E"),
            key("key"),
            "the file is DER",
        ),
        (&key("key"), cert.clone(), "no certificate in it"),
        (
            &String::from("/nowhere.pem"),
            key("key"),
            "/nowhere.pem: No such file",
        ),
    ] {
        let mut command = frameloop(&["--listen", "127.0.0.1:0"]);
        command.args(["--tls-cert", cert, "--tls-key", &key]);
        is_refused(&mut command, &[sentence, "FRAMELOOP_TLS_KEY"]);
    }
    let mut command = frameloop(&["--listen", "127.0.0.1:0"]);
    command.args(["--tls-cert", &cert, "--tls-key", &key("key")]);
    let server = ServerProcess::spawn(&mut command);
    assert!(server.url.starts_with("https://"), "{}", server.url);
}

#[test]
fn a_host_name_listens_on_all_its_addresses() {
    const WHAT: &str = "--listen NAME:0 binds all addresses of the name, on one port";
    let hosts = temporary("hosts");
    std::fs::write(&hosts, "127.0.0.1 several.test\n127.0.0.2 several.test\n").unwrap();
    let hosts = hosts.to_str().unwrap().to_owned();
    let bind = "mount --bind \"$0\" /etc/hosts";
    if !succeeds("unshare", &["--mount", "sh", "-c", bind, &hosts]) {
        return skip(Kind::Fault, 23, WHAT, "no right to another /etc/hosts");
    }
    let script = format!("{bind} && exec \"$@\"");
    let mut server = ServerProcess::spawn(&mut command_under(
        &["unshare", "--mount", "sh", "-c", &script, &hosts],
        &["--listen", "several.test:0"],
    ));
    let rest = server.stdout.by_ref().lines().map(Result::unwrap);
    let rest = rest.take_while(|line| !line.is_empty());
    let rest = rest.map(|line| line.rsplit_once("//").unwrap().1.parse().unwrap());
    let addresses: Vec<SocketAddr> = [server.address].into_iter().chain(rest).collect();
    let mut ips: Vec<_> = addresses
        .iter()
        .map(|address| address.ip().to_string())
        .collect();
    ips.sort();
    assert_eq!(ips, ["127.0.0.1", "127.0.0.2"]);
    assert_eq!(addresses[0].port(), addresses[1].port());
    for address in addresses {
        assert!(client::open(address, "/echo").is_ok(), "{address}");
    }
}

#[test]
fn a_unix_socket_has_the_requested_mode_and_group() {
    let own_group = rustix::process::getgid().as_raw();
    for (options, mode, group) in [
        (String::from(",mode=0600"), 0o600, own_group),
        (String::from(",mode=666"), 0o666, own_group),
        (format!(",group={own_group}"), 0o660, own_group),
        (format!(",mode=0606,group={own_group}"), 0o606, own_group),
    ] {
        let path = temporary("mode.sock");
        let address = format!("unix:{}{options}", path.display());
        let server = ServerProcess::start(&["--listen", "127.0.0.1:0", "--listen", &address]);
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{options}");
        assert_eq!(metadata.gid(), group, "{options}");
        // The health check accepts the same form of the address.
        let mut command = frameloop(&["healthcheck"]);
        command.env("FRAMELOOP_LISTEN", &address);
        assert_eq!(run(&mut command), (Some(0), String::new()));
        drop(server);
    }
    let path = temporary("group.sock");
    let address = format!("unix:{},group=no-such-group", path.display());
    let (code, message) = run(&mut frameloop(&["--listen", &address]));
    assert_eq!(code, Some(3));
    assert!(
        message.contains("unknown group 'no-such-group'"),
        "{message}"
    );
    assert!(!path.exists());
}

/// As in docs/operations.md: nginx runs as another user, whose group has access.
#[test]
fn nginx_reaches_a_unix_socket_of_its_group() {
    const WHAT: &str = "nginx in front of a Unix domain socket of its group";
    let is_root = rustix::process::geteuid().is_root();
    let groups = std::fs::read_to_string("/etc/group").unwrap();
    let has_group = groups.lines().any(|line| line.starts_with("www-data:"));
    if !is_root || !has_group || !succeeds("nginx", &["-v"]) {
        return skip(
            Kind::Fault,
            23,
            WHAT,
            "nginx or the right to be two users is missing",
        );
    }
    let directory = temporary("nginx");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    let everybody = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&directory, everybody).unwrap();
    for (options, status) in [(",mode=0660,group=www-data", "200"), (",mode=0600", "502")] {
        let path = directory.join("frameloop.sock");
        let address = format!("unix:{}{options}", path.display());
        let arguments = ["--listen", "127.0.0.1:0", "--listen", &address];
        let _server = ServerProcess::start(&arguments);
        let nginx = NginxSocket::start(&directory, &path);
        let answer =
            nginx.asked("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{options}: {answer}"
        );
        if status == "200" {
            Client::on(nginx.connect(), "/echo").is_echoed();
        }
    }
    let _ = std::fs::remove_dir_all(&directory);
}

/// nginx in front of a Unix domain socket.
struct NginxSocket {
    _nginx: Nginx,
    socket: PathBuf,
}

impl NginxSocket {
    fn start(directory: &Path, upstream: &Path) -> NginxSocket {
        let socket = directory.join("nginx.sock");
        let _ = std::fs::remove_file(&socket);
        let listen = format!("unix:{}", socket.display());
        let listens = || UnixStream::connect(&socket).is_ok();
        NginxSocket {
            _nginx: Nginx::start(directory, &listen, upstream, listens),
            socket,
        }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream
            .set_read_timeout(Some(client::LONG_PATIENCE))
            .unwrap();
        stream
    }

    fn asked(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

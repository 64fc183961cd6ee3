//! Attacks on Socket.IO.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::LazyLock;

use crate::attacks::{Attack, SOCKETIO, attack};
use crate::client::{LONG_PATIENCE, connect, frame, receive_head};
use crate::rounds::*;

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

pub(crate) const ATTACKS: &[Attack] = &[
    attack(
        47,
        4,
        "4 Socket.IO clients announce an attachment that never comes",
        |address, is_over| {
            let packet = br#"451-["message",{"_placeholder":true,"num":0}]"#;
            let first = [frame(0x81, b"40"), frame(0x81, packet)].concat();
            held(address, SOCKETIO, &first, is_over)
        },
    ),
    attack(
        48,
        4,
        "4 clients post to Socket.IO sessions that do not exist",
        |address, is_over| {
            let path = "/socket.io/?EIO=4&transport=polling&sid=none";
            let post =
                format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n40");
            flood(connect(address, LONG_PATIENCE)?, post.as_bytes(), is_over)
        },
    ),
    attack(
        57,
        4,
        "4 Socket.IO clients refer 30,000 times to one attachment",
        |address, _| {
            let references = [r#"{"_placeholder":true,"num":0}"#; 30_000].join(",");
            let packet = format!(r#"451-["message",{references}]"#);
            let packets = [
                frame(0x81, b"40"),
                frame(0x81, packet.as_bytes()),
                frame(0x82, b"a"),
            ];
            closes(address, SOCKETIO, &packets.concat())
        },
    ),
    Attack {
        arguments: &["--max-unsent-size", "64MiB"],
        ..attack(
            60,
            4,
            "4 clients open polling sessions and leave 1.8 MB of echoes in each",
            |address, _| {
                let (mut stream, path) = polling_session(address)?;
                for _ in 0..2 {
                    stream.write_all(&post(&path, &LARGE_EVENT))?;
                    answer(&mut stream)?;
                }
                Ok(())
            },
        )
    },
    attack(
        61,
        4,
        "4 Socket.IO clients send events of 5,000 values that wait, and one of 300,000",
        |address, _| closes(address, SOCKETIO, &QUESTIONS),
    ),
    attack(
        62,
        4,
        "4 Socket.IO clients post chunks of one byte",
        |address, is_over| {
            let (mut stream, path) = polling_session(address)?;
            let fields = "Host: localhost\r\nTransfer-Encoding: chunked";
            write!(stream, "POST {path} HTTP/1.1\r\n{fields}\r\n\r\n")?;
            flood(stream, &b"1\r\n4\r\n".repeat(2_000), is_over)
        },
    ),
    attack(
        63,
        4,
        "4 Socket.IO clients join rooms with names of 100 kB",
        |address, is_over| {
            let join = format!(r#"42["join",{{"room":"{}"}}]"#, "x".repeat(100_000));
            flood_socket(
                address,
                SOCKETIO,
                &frame(0x81, b"40"),
                &frame(0x81, join.as_bytes()),
                is_over,
            )
        },
    ),
    attack(
        67,
        3,
        "3 clients pipeline requests for Socket.IO sessions",
        |address, is_over| {
            let asked = get("/socket.io/?EIO=4&transport=polling");
            flood(connect(address, LONG_PATIENCE)?, &asked, is_over)
        },
    ),
    attack(
        72,
        4,
        "4 Socket.IO clients send small events",
        |address, is_over| {
            let event = frame(0x81, br#"42["message","x"]"#);
            flood_socket(address, SOCKETIO, &frame(0x81, b"40"), &event, is_over)
        },
    ),
    Attack {
        arguments: &["--message-timeout", "200ms"],
        ..attack(
            76,
            4,
            "4 Socket.IO clients send one attachment of two, --message-timeout 200ms",
            |address, _| {
                let names = r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}"#;
                let packet = format!(r#"452-["echo",{names}]"#);
                let packets = [
                    frame(0x81, b"40"),
                    frame(0x81, packet.as_bytes()),
                    frame(0x82, b"one of two"),
                ];
                left_alone(address, SOCKETIO, &packets.concat())
            },
        )
    },
    attack(
        78,
        4,
        "4 clients pipeline preflights of another origin",
        |address, is_over| {
            let fields = "Host: localhost\r\nOrigin: https://example.org\r\n\
                          Access-Control-Request-Method: POST";
            let asked = format!("OPTIONS /socket.io/ HTTP/1.1\r\n{fields}\r\n\r\n");
            flood(connect(address, LONG_PATIENCE)?, asked.as_bytes(), is_over)
        },
    ),
];

/// Opens a polling session that joins `/`. Returns its connection and the path of its requests.
fn polling_session(address: SocketAddr) -> io::Result<(TcpStream, String)> {
    let mut stream = connect(address, LONG_PATIENCE)?;
    stream.write_all(&get(POLLING))?;
    let opened = answer(&mut stream)?;
    let (_, rest) = opened
        .split_once(r#""sid":""#)
        .ok_or(ErrorKind::InvalidData)?;
    let sid = rest.split('"').next().unwrap_or_default();
    let path = format!("{POLLING}&sid={sid}");
    stream.write_all(&post(&path, "40"))?;
    answer(&mut stream)?;
    Ok((stream, path))
}

fn post(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// The body of the next response.
fn answer(stream: &mut TcpStream) -> io::Result<String> {
    let head = receive_head(stream)?.to_lowercase();
    let (_, rest) = head
        .split_once("content-length: ")
        .ok_or(ErrorKind::InvalidData)?;
    let length = rest
        .split('\r')
        .next()
        .and_then(|length| length.parse().ok());
    let mut body = vec![0; length.ok_or(ErrorKind::InvalidData)?];
    stream.read_exact(&mut body)?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

static LARGE_EVENT: LazyLock<String> =
    LazyLock::new(|| format!(r#"42["echo","{}"]"#, "x".repeat(900_000)));

/// An event may have 10,000 values, and 16 handlers of a session may run.
static QUESTIONS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let question = |values: usize| {
        let event = format!(r#"42["ask",[{}]]"#, vec!["[]"; values].join(","));
        frame(0x81, event.as_bytes())
    };
    let waiting = question(5_000).repeat(15);
    [frame(0x81, b"40"), waiting, question(300_000)].concat()
});

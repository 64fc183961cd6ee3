//! Rows 11, 12 and 13: failing system calls, and exhausted memory.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{self, LONG_PATIENCE, frame};
use crate::process::{ServerProcess, command_under, succeeds};
use crate::report::{Kind, figure, skip};
use crate::{lasting, tell, times, under_load};

/// A server with injected system call failures; `None` if strace is missing or not permitted.
fn injected(what: &str) -> Option<ServerProcess> {
    if !succeeds("strace", &["-qq", "-o", "/dev/null", "true"]) {
        return None;
    }
    let (calls, _) = what.split_once(':')?;
    let trace = format!("trace={calls}");
    let inject = format!("inject={what}");
    let wrapper = [
        "strace",
        "-D",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        &trace,
        "-e",
        &inject,
    ];
    Some(ServerProcess::spawn(&mut command_under(&wrapper, &[])))
}

#[test]
fn row_11_accepting_fails_now_and_then() {
    for error in ["ECONNABORTED", "EINTR", "ENFILE", "ENOMEM"] {
        let what = format!("accept4 fails with {error}, every fifth (strace)");
        // The calls of the load and of the warm-up come first.
        let Some(mut server) = injected(&format!("accept4:error={error}:when=40+5")) else {
            skip(Kind::Fault, 11, what, "strace is missing or not permitted");
            continue;
        };
        let is_exhaustion = error.starts_with("EN");
        under_load(11, &what, &mut server, |server| {
            let mut turned_away = 0;
            let began = Instant::now();
            for _ in 0..50 {
                while client::open(server.address, "/echo").is_err() {
                    turned_away += 1;
                }
            }
            assert!(
                is_exhaustion || turned_away == 0,
                "{turned_away} turned away"
            );
            format!(
                "50 clients connected within {:.1?}, {turned_away} turned away before",
                began.elapsed()
            )
        });
    }
}

#[test]
fn row_11_descriptors_run_out() {
    const WHAT: &str = "64 descriptors for 200 clients (prlimit)";
    if !succeeds("prlimit", &["--nofile=64", "true"]) {
        return skip(Kind::Fault, 11, WHAT, "prlimit is missing or not permitted");
    }
    // Without this limit the server would answer 503 before descriptors run out.
    let arguments = ["--max-connections", "10000"];
    let mut server =
        ServerProcess::spawn(&mut command_under(&["prlimit", "--nofile=64"], &arguments));
    under_load(11, WHAT, &mut server, |server| {
        let mut open = Vec::new();
        let mut turned_away = 0;
        for _ in 0..200 {
            match client::open(server.address, "/echo") {
                Ok(socket) => open.push(socket),
                Err(_) => turned_away += 1,
            }
        }
        assert!(
            turned_away > 0 && open.len() > 20,
            "{turned_away} of 200 turned away"
        );
        let served = open.len();
        drop(open);
        let freed = Instant::now();
        while client::open(server.address, "/echo").is_err() {
            assert!(freed.elapsed() < LONG_PATIENCE);
        }
        format!(
            "{served} served, {turned_away} turned away, connected again {:.0?} after descriptors were free",
            freed.elapsed()
        )
    });
}

#[test]
fn row_12_sending_and_reading_are_interrupted() {
    const WHAT: &str = "every third read and write interrupted (EINTR, strace)";
    // Only on sockets and pollers: the kernel never interrupts a `write` to an eventfd, and tokio,
    // which wakes its threads by eventfd, panics if it fails.
    let calls = "recvfrom,sendto,readv,writev,epoll_wait:error=EINTR:when=200+3";
    let Some(mut server) = injected(calls) else {
        return skip(Kind::Fault, 12, WHAT, "strace is missing or not permitted");
    };
    let duration = lasting(Duration::from_secs(60), Duration::from_millis(1_500));
    under_load(12, WHAT, &mut server, |_| {
        // Leaves time for many more calls than strace exempts at the start.
        thread::sleep(duration);
        format!("{duration:?}")
    });
}

/// A client whose system call fails is disconnected; the others lose nothing.
#[test]
fn row_12_a_failing_send_disconnects_only_its_client() {
    for error in ["EPIPE", "ENOBUFS"] {
        let what = format!("a send fails with {error} (strace)");
        let Some(server) = injected(&format!("sendto,writev:error={error}:when=100+100")) else {
            skip(Kind::Fault, 12, what, "strace is missing or not permitted");
            continue;
        };
        let mut ended = 0;
        let before = server.settled();
        for _ in 0..20 {
            let Ok(mut socket) = client::open(server.address, "/echo") else {
                ended += 1;
                continue;
            };
            for number in 0..20_u8 {
                let echoed = socket
                    .send(vec![number; 100].into())
                    .and_then(|()| socket.read());
                match echoed {
                    Ok(message) => assert_eq!(message.into_data(), [number; 100][..]),
                    Err(_) => {
                        ended += 1;
                        break;
                    }
                }
            }
        }
        let mut server = server;
        server.lives();
        server.returns_to(before);
        // Every hundredth send of each worker: two workers, about 420 sends.
        assert!((1..=5).contains(&ended), "{ended} of 20 ended");
        tell(
            12,
            &what,
            format_args!("{ended} of 20 clients disconnected, the others' echoes complete"),
        );
    }
}

#[test]
fn row_13_connections_under_a_memory_limit() {
    let _alone = crate::alone_with_many_connections();
    const WHAT: &str = "address space of 256 MiB (RLIMIT_AS), many connections that have echoed";
    let limit = ["prlimit", "--as=268435456"];
    if !succeeds(limit[0], &[limit[1], "true"]) {
        return skip(Kind::Fault, 13, WHAT, "prlimit is missing or not permitted");
    }
    let limits = rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let connections = u64::from(times(10_000, 1_000)).min(limits.saturating_sub(1_000));
    let mut server = ServerProcess::spawn(&mut command_under(&limit, &[]));
    under_load(13, WHAT, &mut server, |server| {
        let mut sockets = Vec::new();
        let mut refused = 0;
        for _ in 0..connections {
            match client::open(server.address, "/echo") {
                Ok(mut socket) => {
                    socket.send(vec![1; 1_000].into()).unwrap();
                    assert_eq!(socket.read().unwrap().len(), 1_000);
                    sockets.push(socket);
                }
                Err(error) => {
                    assert_ne!(error.kind(), ErrorKind::WouldBlock, "left hanging");
                    refused += 1;
                }
            }
        }
        let resources = server.resources();
        format!("{} open, {refused} refused, {resources}", sockets.len())
    });
}

/// Unfinished messages would exceed the memory limit. The server refuses a client that adds to
/// them; clients with whole messages notice nothing.
#[test]
fn row_13_unfinished_messages_under_a_memory_limit() {
    let _alone = crate::alone_with_many_connections();
    const WHAT: &str = "address space of 256 MiB (RLIMIT_AS), 60 kB of an unfinished message each";
    const CLIENTS: usize = 6_000;
    let limit = ["prlimit", "--as=268435456"];
    if !succeeds(limit[0], &[limit[1], "true"]) {
        return skip(Kind::Fault, 13, WHAT, "prlimit is missing or not permitted");
    }
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let mut server = ServerProcess::spawn(&mut command_under(&limit, &[]));
    let mut bystander = client::open(server.address, "/echo").unwrap();
    let mut echo = |size: usize| {
        bystander.send(vec![1; size].into()).unwrap();
        assert_eq!(bystander.read().unwrap().len(), size);
    };
    echo(1_000);
    let before = server.settled();
    let begun = &frame(0x82, &[6; 100_000])[..60_000];
    let mut holders = Vec::new();
    for _ in 0..CLIENTS {
        let mut socket = client::open(server.address, "/echo").unwrap();
        // The server may refuse a client before it has sent everything.
        let _ = socket.get_mut().write_all(begun);
        echo(100);
        holders.push(socket);
    }
    server.lives();
    let during = server.resources();
    let is_refused = |stream: &TcpStream| {
        let mut answer = [0; 4];
        stream.set_nonblocking(true).unwrap();
        stream.peek(&mut answer).is_ok() && answer[2..] == 1013_u16.to_be_bytes()
    };
    let refused = holders
        .iter()
        .filter(|socket| is_refused(socket.get_ref()))
        .count();
    assert!(refused > 0, "{during}");
    drop(holders);
    server.returns_to(before);
    echo(1_000_000);
    figure(
        Kind::Fault,
        13,
        WHAT,
        "alive; 1013 for clients over the budget; whole messages echoed",
        format_args!("{refused} of {CLIENTS} clients refused with 1013; {during}"),
    );
}

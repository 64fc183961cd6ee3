//! Clients that connect, echo and disconnect, in every way.

use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::checker::{self, Log, Tally};
use crate::client;
use crate::load;
use crate::process::ServerProcess;
use crate::report::{Kind, figure};
use crate::trend::{self, Trend};

#[test]
fn connect_churn() {
    let server = ServerProcess::start(&[]);
    let before = server.settled();
    let rounds = if trend::duration() > Duration::from_secs(60) {
        250
    } else {
        5
    };
    let mut tally = Tally::default();
    let mut connections = 0_u32;
    let trend = Trend::watch(&server, || {
        for _ in 0..rounds {
            connections += 1;
            tally = tally + visit(&server, connections);
        }
        // Samples are taken when the server has finished with all of them.
        server.returns_to(before);
    });
    figure(
        Kind::Soak,
        4,
        "connect churn: handshake, echo, then Close, FIN or RST in turn",
        "0 lost, duplicated, reordered, corrupted",
        format_args!("{connections} connections, {tally}"),
    );
    tally.assert_clean();
    trend.is_level(4, "connect churn");
}

fn visit(server: &ServerProcess, number: u32) -> Tally {
    let path = ["/echo", "/broadcast/churn"][(number / 3 % 2) as usize];
    let mut socket = client::open(server.address, path).unwrap();
    let mut log = Log::joining([(number, 0)]);
    let payload = checker::payload(number, 0, 200);
    socket.send(client::message(false, payload)).unwrap();
    load::receive(&mut socket, &mut log).unwrap();
    match number % 3 {
        0 => {
            socket.close(None).unwrap();
            while load::receive(&mut socket, &mut log).is_ok() {}
        }
        1 => {} // FIN
        _ => set_socket_linger(socket.get_ref(), Some(Duration::ZERO)).unwrap(),
    }
    Tally {
        sent: 1,
        ..log.stayed([(number, 1)])
    }
}

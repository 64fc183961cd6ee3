//! Mixed echo traffic with every payload compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::checker::Tally;
use crate::client;
use crate::load::{self, Shape};
use crate::process::ServerProcess;
use crate::report::{Kind, figure};
use crate::trend::Trend;

#[test]
fn echo_of_mixed_traffic() {
    let shape = Shape {
        pause: Duration::from_millis(50),
        ..Shape::default()
    };
    let server = ServerProcess::start(&[]);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..12)
        .map(|number| {
            let socket = client::open(server.address, "/echo").unwrap();
            let stop = Arc::clone(&stop);
            thread::spawn(move || load::echo(socket, number, shape, &stop))
        })
        .collect();
    let trend = Trend::watch(&server, || {});
    stop.store(true, Ordering::SeqCst);
    let tally: Tally = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .sum();
    figure(
        Kind::Soak,
        2,
        "echo, 40 bytes to 200 KiB, text and binary, 12 clients: messages",
        "0 lost, duplicated, reordered, corrupted",
        tally,
    );
    tally.assert_clean();
    trend.is_level(2, "echo");
}

//! A stream that limits, delays, interrupts or breaks reads and writes changes only the timing: no
//! byte is lost or repeated, and a dropped loop leaves nothing behind.

use std::rc::Rc;

use arbitrary::{Arbitrary, Unstructured};
use frameloop::engine::Simulation;
use frameloop::protocol::DeflateParameters;
use frameloop::{Deflate, Message, WebSocket};

use super::client::read_frames;
use super::connection::{Operation, settings};
use super::scripted::{Scripted, ServerEnd, Step};

#[derive(Arbitrary, Debug)]
struct Script<'a> {
    is_compressed: bool,
    reads: Vec<Step>,
    writes: Vec<Step>,
    /// The event after which everything is dropped.
    dropped_after: Option<u8>,
    /// How often each message is echoed.
    copies: u8,
    operations: Vec<Operation<'a>>,
}

pub(crate) fn check(input: &[u8]) {
    let Ok(script) = Script::arbitrary_take_rest(Unstructured::new(input)) else {
        return;
    };
    let unhindered = Script {
        reads: Vec::new(),
        writes: Vec::new(),
        dropped_after: None,
        operations: script.operations.clone(),
        ..script
    };
    let (whole, _) = run(&unhindered);
    let (bytes, is_whole) = run(&script);
    assert!(whole.starts_with(&bytes), "a byte was lost or repeated");
    if is_whole {
        assert_eq!(bytes.len(), whole.len());
        assert!(!read_frames(&bytes).1, "a truncated frame");
    }
}

/// What the server sent, and whether the output must be complete.
fn run(script: &Script<'_>) -> (Vec<u8>, bool) {
    let scripted = Scripted::default();
    let token = Rc::new(());
    let mut settings = settings();
    settings.deflate = Some(Deflate::default());
    settings.high_water_mark = 512;
    settings.slow_consumer.max_bytes = usize::MAX;
    let mut simulation = Simulation::<ServerEnd>::new(&settings);
    let echo = {
        let (token, copies) = (Rc::clone(&token), script.copies % 4);
        move |socket: &mut WebSocket<'_>, message: Message<'_>| {
            let _held = &token;
            for _ in 0..copies {
                if message.is_data() {
                    socket.send(message);
                }
            }
        }
    };
    let deflate = script.is_compressed.then_some(DeflateParameters {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    });
    let connection = simulation.open(scripted.server(), echo, deflate.as_ref());
    {
        let mut wire = scripted.wire();
        wire.reads = script.reads.iter().copied().take(64).collect();
        wire.writes = script.writes.iter().copied().take(64).collect();
    }
    let mut events = 0;
    let is_dropped = |events: &mut u8| {
        *events = events.saturating_add(1);
        script.dropped_after.is_some_and(|last| *events > last)
    };
    let mut is_whole = true;
    for operation in script.operations.iter().take(64) {
        let bytes = operation.bytes();
        scripted.wire().incoming.extend(bytes);
        simulation.ready(connection);
        if is_dropped(&mut events) {
            is_whole = false;
            break;
        }
        simulation.run();
    }
    if is_whole {
        finish(&mut simulation, connection, &scripted);
        is_whole = !is_broken(script);
    }
    drop(simulation);
    assert!(scripted.wire().is_dropped, "the stream outlived the loop");
    assert_eq!(Rc::strong_count(&token), 1, "the handler outlived the loop");
    let bytes = std::mem::take(&mut scripted.wire().outgoing);
    (bytes, is_whole)
}

/// The peer has sent everything and FIN, and reads everything.
fn finish(
    simulation: &mut Simulation<ServerEnd>,
    connection: frameloop::engine::SimulatedConnection,
    scripted: &Scripted,
) {
    // Each step causes at most one event, so after these the script is used up.
    for _ in 0..200 {
        simulation.ready(connection);
        simulation.run();
    }
    assert!(
        scripted.wire().incoming.is_empty()
            || scripted.wire().is_shut
            || scripted.wire().is_dropped
    );
    scripted.wire().has_ended = true;
    for _ in 0..4 {
        simulation.ready(connection);
        simulation.run();
    }
    assert!(
        scripted.wire().is_dropped,
        "the connection outlived its peer"
    );
}

fn is_broken(script: &Script<'_>) -> bool {
    let mut steps = script.reads.iter().chain(&script.writes);
    steps.any(|step| matches!(step, Step::Broken))
}

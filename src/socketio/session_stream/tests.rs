//! Broadcasts among the engine's own frames.

use super::*;

#[test]
fn a_broadcast_comes_between_packets_however_their_frames_are_cut() {
    let long = [&[0x82, 126, 1, 0][..], &[7; 256]].concat();
    let frames: [(&[u8], bool); 6] = [
        (b"\x81\x020{", false),
        (b"\x81\x063probe", false),
        (b"\x81\x0240", true),
        (b"\x8A\x00", true),
        (&long, true),
        (b"\x88\x02\x03\xE8", false),
    ];
    for size in 1..9 {
        let mut outgoing = Outgoing::default();
        for (frame, expected) in frames {
            let mut pieces = frame.chunks(size).peekable();
            while let Some(piece) = pieces.next() {
                outgoing.pass(piece);
                if pieces.peek().is_some() {
                    assert!(!outgoing.is_between_packets(), "{frame:?} in {size}s");
                }
            }
            assert_eq!(outgoing.is_between_packets(), expected, "{frame:?}");
        }
    }
}

/// Takes `room` octets, then blocks.
#[derive(Default)]
struct Narrow {
    taken: Vec<u8>,
    room: usize,
}

impl AsyncWrite for Narrow {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = octets.len().min(this.room);
        if written == 0 {
            return Poll::Pending;
        }
        this.room -= written;
        this.taken.extend_from_slice(&octets[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

const PACKET: &[u8] = b"\x81\x03420";
const BROADCAST: Bytes = Bytes::from_static(b"\x81\x03421");

/// One whose engine has written a packet.
fn state(room: usize) -> State<Narrow> {
    let mut state = State::new(Narrow {
        taken: Vec::new(),
        room: PACKET.len(),
    });
    assert!(write(&mut state, PACKET, 0));
    state.stream.taken.clear();
    state.stream.room = room;
    state
}

/// The engine writes; says whether all was taken.
fn write(state: &mut State<Narrow>, octets: &[u8], now: u64) -> bool {
    let context = &mut Context::from_waker(Waker::noop());
    let written = state.poll_engine_write(context, octets, Epoch::at(now));
    matches!(written, Poll::Ready(Ok(length)) if length == octets.len())
}

fn drains(state: &mut State<Narrow>) -> bool {
    let context = &mut Context::from_waker(Waker::noop());
    state.poll_drain(context).is_ready()
}

#[test]
fn a_broadcast_is_written_only_where_the_engine_has_nothing_before_it() {
    let mut state = state(100);
    assert_eq!(state.send(&BROADCAST, Epoch::at(1)), Sent::Written);
    // The engine is stopped amid a packet, and between two.
    for room in [2, 0] {
        state.stream.room = room;
        assert!(!write(&mut state, PACKET, 4));
        state.stream.room = 100;
        assert_eq!(state.send(&BROADCAST, Epoch::at(9)), Sent::Refused);
        assert!(write(&mut state, &PACKET[room..], 5));
        // What began before may have to go behind more of the engine's.
        assert_eq!(state.send(&BROADCAST, Epoch::at(5)), Sent::Refused);
        assert_eq!(state.send(&BROADCAST, Epoch::at(6)), Sent::Written);
    }
    write(&mut state, b"\x88\x00", 7);
    assert_eq!(state.send(&BROADCAST, Epoch::at(9)), Sent::Refused);
}

#[test]
fn a_broadcast_that_has_begun_goes_before_the_engine() {
    for room in [0, 1, 4] {
        let mut state = state(room);
        assert_eq!(state.send(&BROADCAST, Epoch::at(1)), Sent::Begun);
        state.stream.room = 0;
        assert!(!drains(&mut state));
        assert!(!write(&mut state, PACKET, 1));
        state.stream.room = 100;
        assert_eq!(state.send(&BROADCAST, Epoch::at(2)), Sent::Refused);
        assert!(!write(&mut state, PACKET, 2), "it is held");
        assert!(drains(&mut state));
        assert_eq!(state.send(&BROADCAST, Epoch::at(3)), Sent::Refused);
        assert!(write(&mut state, PACKET, 3));
        assert_eq!(state.send(&BROADCAST, Epoch::at(4)), Sent::Written);
        let expected = [&BROADCAST[..], PACKET, &BROADCAST].concat();
        assert_eq!(state.stream.taken, expected, "{room}");
    }
}

#[test]
fn a_flush_that_is_held_counts_as_having_more_to_write() {
    let mut state = state(1);
    assert_eq!(state.send(&BROADCAST, Epoch::at(1)), Sent::Begun);
    let context = &mut Context::from_waker(Waker::noop());
    assert!(state.poll_engine_flush(context, Epoch::at(1)).is_pending());
    state.stream.room = 100;
    assert!(drains(&mut state));
    assert_eq!(state.send(&BROADCAST, Epoch::at(9)), Sent::Refused);
    assert!(state.poll_engine_flush(context, Epoch::at(2)).is_ready());
    assert_eq!(state.send(&BROADCAST, Epoch::at(2)), Sent::Refused);
    assert_eq!(state.send(&BROADCAST, Epoch::at(3)), Sent::Written);
}

#[test]
fn the_session_is_the_open_packets() {
    let sid = Sid::new();
    let open = format!("\u{1}0{{\"sid\":\"{sid}\",\"upgrades\":[]}}");
    assert_eq!(opened_sid(open.as_bytes()), Some(sid));
    assert_eq!(opened_sid(b"\x81\x0240"), None);
}

//! Encoding of messages as frames, and the closing handshake (RFC 6455 §6.1, §7).
//!
//! ```text
//!          close()                       received_close()
//!   Open ───────────▶ CloseSent ───────────────────────────────▶ Closed
//!    │                   │                                         ▲
//!    │                   └──────────── fail(): nothing is sent ────┤
//!    ├── owe_close() ──▶ CloseOwed ── received_close() ────────────┤
//!    ├── received_close(): the Close is answered ──────────────────┤
//!    └── fail(): a Close with the error's code is sent ────────────┘
//! ```
//!
//! At most one Close is sent, and no frame after it (§5.5.1).

use super::copy;
use super::deflate::{Deflate, DeflateParameters, Deflater, LongCompression, TakeoverContext};
use super::frame::EncodedHeader;
use super::{CloseCode, CloseFrame, FrameHeader, Message, OpCode, ProtocolError};

/// A destination for encoded frames.
pub trait FrameSink {
    /// Appends one frame: the header, then the payload.
    fn frame(&mut self, header: EncodedHeader, payload: &[u8]);
}

impl FrameSink for Vec<u8> {
    #[inline]
    fn frame(&mut self, header: EncodedHeader, payload: &[u8]) {
        header.append_to(self);
        copy::append(self, payload);
    }
}

/// The sending half of a server's connection.
#[derive(Debug, Default)]
pub struct Sender {
    state: SenderState,
    /// `Some` if messages may be compressed.
    deflate: Option<Box<TakeoverContext>>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum SenderState {
    #[default]
    Open,
    /// The peer's Close is received but not yet answered.
    CloseOwed,
    /// Our Close is sent, with this code if any; the peer's Close is not yet received.
    CloseSent(Option<CloseCode>),
    /// The closing handshake is complete or the connection failed: nothing more is sent.
    Closed,
}

impl Sender {
    /// A sender whose messages may be compressed (RFC 7692).
    pub fn with_deflate(parameters: &DeflateParameters) -> Sender {
        Sender {
            deflate: Some(Box::new(TakeoverContext::of_server(parameters))),
            ..Sender::default()
        }
    }

    /// Whether messages may be compressed.
    #[inline]
    pub fn may_compress(&self) -> bool {
        self.deflate.is_some()
    }

    /// Whether messages may still be sent: no Close was sent or received.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.state == SenderState::Open
    }

    /// Whether the closing handshake is complete or the connection failed: no frame follows the
    /// frames that are already queued.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.state == SenderState::Closed
    }

    /// Whether this end began the closing handshake and the peer has not answered.
    pub fn is_close_sent(&self) -> bool {
        matches!(self.state, SenderState::CloseSent(_))
    }

    /// The code of our Close while the peer's answer is outstanding; otherwise, or if our Close has
    /// no code, `None`.
    pub fn close_code_sent(&self) -> Option<CloseCode> {
        match self.state {
            SenderState::CloseSent(code) => code,
            SenderState::Open | SenderState::CloseOwed | SenderState::Closed => None,
        }
    }

    /// Sends a message or control frame, unmasked, in one frame. Does nothing after a Close was
    /// sent or received (§5.5.1).
    ///
    /// The payload of a Ping or Pong is truncated to 125 bytes (§5.5).
    #[inline(always)]
    pub fn send(&mut self, message: Message<'_>, output: &mut impl FrameSink) {
        match message {
            _ if self.state != SenderState::Open => {}
            Message::Text(text) => put(true, OpCode::Text, false, text.as_bytes(), output),
            Message::Binary(payload) => put(true, OpCode::Binary, false, payload, output),
            _ => self.send_control(message, output),
        }
    }

    /// Sends a data message uncompressed in fragments of at most `max_fragment_size` bytes of
    /// payload (§5.4). A control frame is sent whole.
    pub fn send_fragmented(
        &mut self,
        message: Message<'_>,
        max_fragment_size: usize,
        output: &mut impl FrameSink,
    ) {
        let data = message.frame().filter(|(opcode, _)| !opcode.is_control());
        let Some((mut opcode, mut rest)) = data.filter(|_| self.is_open()) else {
            return self.send(message, output);
        };
        loop {
            let (fragment, after) = rest.split_at(rest.len().min(max_fragment_size.max(1)));
            put(after.is_empty(), opcode, false, fragment, output);
            if after.is_empty() {
                return;
            }
            (opcode, rest) = (OpCode::Continuation, after);
        }
    }

    fn send_control(&mut self, message: Message<'_>, output: &mut impl FrameSink) {
        fn cut(payload: &[u8]) -> &[u8] {
            payload.get(..125).unwrap_or(payload) // §5.5
        }
        match message {
            Message::Ping(payload) => put(true, OpCode::Ping, false, cut(payload), output),
            Message::Pong(payload) => put(true, OpCode::Pong, false, cut(payload), output),
            Message::Close(frame) => self.close(frame, output),
            Message::Text(_) | Message::Binary(_) => {}
        }
    }

    /// [`Sender::send`] with compression, if compression was negotiated and makes a data message
    /// smaller. Returns a long message, which the caller must complete and send before any other
    /// data message.
    pub fn send_compressed(
        &mut self,
        message: Message<'_>,
        deflate: &Deflate,
        deflater: &mut Deflater,
        output: &mut impl FrameSink,
    ) -> Option<LongCompression> {
        if let (Some(context), SenderState::Open) = (&mut self.deflate, self.state)
            && let Some((opcode, payload)) = worth_compressing(&message, deflate)
        {
            let level = deflate.level;
            if payload.len() > LongCompression::STEP {
                let long = LongCompression::begin(opcode, payload, level, context, deflater);
                if long.is_some() {
                    context.remember(payload);
                    return long;
                }
            } else if let Some(compressed) = deflater.deflate(payload, level, context) {
                put(true, opcode, true, compressed, output);
                context.remember(payload);
                return None;
            }
        }
        self.send(message, output);
        None
    }

    /// Whether this peer can read a message of `length` bytes that
    /// [`encode_compressed_message`] has compressed in a window of `window_bits`.
    pub fn accepts_compressed(&self, window_bits: u8, length: usize) -> bool {
        self.deflate
            .as_ref()
            .is_some_and(|context| context.holds(window_bits, length))
    }

    /// Records that a message from [`encode_compressed_message`] was sent to this peer. The next
    /// message refers to no earlier text.
    pub fn sent_compressed(&mut self) {
        if let Some(context) = &mut self.deflate {
            context.forget();
        }
    }

    /// Begins the closing handshake (§7.1.2), unless it has begun.
    pub fn close(&mut self, frame: Option<CloseFrame<'_>>, output: &mut impl FrameSink) {
        if self.state == SenderState::Open {
            put_close(frame, output);
            self.state = SenderState::CloseSent(frame.map(|frame| frame.code));
        }
    }

    /// Records the peer's Close. Nothing is sent until [`Sender::received_close`] answers it.
    pub fn owe_close(&mut self) {
        if self.state == SenderState::Open {
            self.state = SenderState::CloseOwed;
        }
    }

    /// Answers the peer's Close with the same code and reason (§5.5.1), unless the peer's Close is
    /// itself the answer to our Close.
    pub fn received_close(&mut self, frame: Option<CloseFrame<'_>>, output: &mut impl FrameSink) {
        if matches!(self.state, SenderState::Open | SenderState::CloseOwed) {
            put_close(frame, output);
        }
        self.state = SenderState::Closed;
    }

    /// Fails the connection because the peer broke a rule (§7.1.7).
    pub fn fail(&mut self, error: ProtocolError, output: &mut impl FrameSink) {
        self.fail_with(error.close_code(), error.reason(), output);
    }

    /// Fails the connection for a reason other than a broken rule, without waiting for the peer's
    /// Close.
    pub fn fail_with(&mut self, code: CloseCode, reason: &str, output: &mut impl FrameSink) {
        if matches!(self.state, SenderState::Open | SenderState::CloseOwed) {
            put_close(Some(CloseFrame { code, reason }), output);
        }
        self.state = SenderState::Closed;
    }
}

/// Encodes a message as one unmasked frame, like [`Sender::send`]: for fan-out, which encodes a
/// message once for all connections.
pub fn encode_message(message: Message<'_>, output: &mut impl FrameSink) {
    Sender::default().send(message, output);
}

/// Encodes a message as one unmasked, compressed frame that refers to no earlier message: for
/// fan-out. Compressing more than 64 KiB in one call delays other
/// connections: [`LongCompression::of_shared`] does it in steps. Returns `false` and
/// writes nothing if the message is a control frame, too small, too large, or would not become
/// smaller.
pub fn encode_compressed_message(
    message: Message<'_>,
    deflate: &Deflate,
    deflater: &mut Deflater,
    output: &mut impl FrameSink,
) -> bool {
    let Some((opcode, payload)) = worth_compressing(&message, deflate) else {
        return false;
    };
    if let Some(mut long) = LongCompression::of_shared(message, deflate, deflater) {
        while !long.step(payload, deflater) {}
        long.send(output);
        return true;
    }
    let context = TakeoverContext::none(deflate.window_bits);
    let compressed = match payload.len() > LongCompression::STEP {
        true => None,
        false => deflater.deflate(payload, deflate.level, &context),
    };
    if let Some(compressed) = compressed {
        put(true, opcode, true, compressed, output);
    }
    compressed.is_some()
}

/// The opcode and payload of a data message if its size is worth compressing.
fn worth_compressing<'a>(message: &Message<'a>, deflate: &Deflate) -> Option<(OpCode, &'a [u8])> {
    message
        .frame()
        .filter(|(opcode, _)| !opcode.is_control())
        .filter(|(_, payload)| (deflate.min_size..=Deflate::MAX_SIZE).contains(&payload.len()))
}

/// Writes one unmasked frame. RSV1 marks a compressed message (RFC 7692 §6.1).
#[inline]
pub(super) fn put(
    fin: bool,
    opcode: OpCode,
    rsv1: bool,
    payload: &[u8],
    output: &mut impl FrameSink,
) {
    let header = FrameHeader {
        fin,
        rsv1,
        opcode,
        masking_key: None,
        payload_length: payload.len() as u64,
    };
    output.frame(header.encode(), payload);
}

fn put_close(frame: Option<CloseFrame<'_>>, output: &mut impl FrameSink) {
    let payload = frame.map(|frame| frame.encode()).unwrap_or_default();
    put(true, OpCode::Close, false, &payload, output);
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYE: CloseFrame<'_> = CloseFrame {
        code: CloseCode::Normal,
        reason: "bye",
    };

    #[test]
    fn frames_have_the_shortest_length_and_no_mask() {
        for (length, header) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (0xFFFF, &[0x82, 126, 0xFF, 0xFF]),
            (0x1_0000, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let payload = vec![7; length];
            let mut output = Vec::new();
            Sender::default().send(Message::Binary(&payload), &mut output);
            assert_eq!(output, [header, &payload].concat());
        }
    }

    #[test]
    fn one_close_at_most_is_sent_and_nothing_after_it() {
        let ends: [fn(&mut Sender, &mut Vec<u8>); 4] = [
            |sender, output| sender.close(Some(BYE), output),
            |sender, output| sender.received_close(Some(BYE), output),
            |sender, output| sender.fail(ProtocolError::ReservedBit, output),
            |sender, output| sender.send(Message::Text("more"), output),
        ];
        for first in &ends[..3] {
            for second in ends {
                let (mut sender, mut output) = (Sender::default(), Vec::new());
                first(&mut sender, &mut output);
                let once = output.clone();
                second(&mut sender, &mut output);
                assert_eq!(output, once);
                assert_eq!(output[0], 0x88);
            }
        }
    }

    #[test]
    fn a_close_is_answered_with_its_own_code_and_reason() {
        let mut output = Vec::new();
        Sender::default().received_close(Some(BYE), &mut output);
        assert_eq!(output, b"\x88\x05\x03\xE8bye");
        output.clear();
        Sender::default().received_close(None, &mut output);
        assert_eq!(output, b"\x88\x00");
    }

    #[test]
    fn a_close_that_is_owed_lets_nothing_more_out() {
        let (mut sender, mut output) = (Sender::default(), Vec::new());
        assert!(sender.is_open() && !sender.is_closed() && !sender.is_close_sent());
        sender.owe_close();
        assert!(!sender.is_open() && !sender.is_closed() && !sender.is_close_sent());
        sender.send(Message::Text("more"), &mut output);
        sender.close(Some(BYE), &mut output);
        assert_eq!(output, b"");
        sender.received_close(Some(BYE), &mut output);
        assert_eq!(output, b"\x88\x05\x03\xE8bye");
        assert!(sender.is_closed());
        // `owe_close` changes nothing if our Close is already sent.
        let mut sender = Sender::default();
        sender.close(Some(BYE), &mut output);
        sender.owe_close();
        assert!(sender.is_close_sent());
        assert_eq!(sender.close_code_sent(), Some(CloseCode::Normal));
    }

    #[test]
    fn only_data_messages_are_worth_compressing_and_only_where_that_was_agreed_on() {
        let deflate = Deflate {
            level: 1,
            min_size: 3,
            context_takeover: crate::protocol::ContextTakeover::None,
            window_bits: 15,
        };
        for (message, expected) in [
            (Message::Text("abc"), true),
            (Message::Binary(b"abc"), true),
            (Message::Text("ab"), false),
            (Message::Ping(b"abcd"), false),
            (Message::Pong(b"abcd"), false),
            (Message::Close(None), false),
        ] {
            let is_worth_it = worth_compressing(&message, &deflate).is_some();
            assert_eq!(is_worth_it, expected, "{message:?}");
        }
        let parameters = DeflateParameters {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: 15,
            client_max_window_bits: 15,
        };
        assert!(Sender::with_deflate(&parameters).may_compress());
        assert!(!Sender::default().may_compress());
    }
}

//! The codec without sockets: bytes per second, compared with `memcpy` and with tungstenite.
//!
//! Run with `cargo bench --bench codec`, or with a filter: `cargo bench --bench codec -- unmask`.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::io::{self, Read, Write};

use divan::Bencher;
use divan::counter::BytesCount;
use flate2::{Compress, Compression, FlushCompress};
use frameloop::protocol::mask::apply_masking_key;
use frameloop::protocol::utf8::Utf8Validator;
use frameloop::protocol::{
    AssemblyPool, DeflateParameters, FrameHeader, Message, OpCode, Receiver, Role, Sender,
    SizeLimits,
};
use tungstenite::protocol::{Role as PeerRole, WebSocket};

const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
const SIZES: [usize; 5] = [20, 125, 1 << 10, 16 << 10, 1 << 20];

fn main() {
    divan::main();
}

/// Unmasks in place, at each alignment in turn.
#[divan::bench(args = SIZES)]
fn unmask(bencher: Bencher<'_, '_>, size: usize) {
    let mut buffer = vec![0x5A; size + 64];
    let mut start = 0;
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        start = (start + 1) % 64;
        apply_masking_key(black_box(&mut buffer[start..start + size]), KEY, start);
    });
}

/// The limit: copies the same bytes, at each alignment in turn.
#[divan::bench(args = SIZES)]
fn memcpy(bencher: Bencher<'_, '_>, size: usize) {
    let from = vec![0x5A; size + 64];
    let mut to = vec![0; size];
    let mut start = 0;
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        start = (start + 1) % 64;
        black_box(&mut to).copy_from_slice(black_box(&from[start..start + size]));
    });
}

#[divan::bench(args = SIZES)]
fn validate_ascii(bencher: Bencher<'_, '_>, size: usize) {
    validate(bencher, &"a".repeat(size));
}

#[divan::bench(args = SIZES)]
fn validate_multibyte(bencher: Bencher<'_, '_>, size: usize) {
    validate(bencher, &"é你😀".repeat(size.div_ceil(9)));
}

fn validate(bencher: Bencher<'_, '_>, text: &str) {
    bencher
        .counter(BytesCount::of_str(text))
        .bench_local(|| Utf8Validator::default().validate(black_box(text.as_bytes())));
}

/// Parses 16 masked binary frames from one read.
#[divan::bench(args = SIZES)]
fn receive(bencher: Bencher<'_, '_>, size: usize) {
    let batch = frames(size);
    let mut receiver = Receiver::new(Role::Server, SizeLimits::default());
    let mut pool = AssemblyPool::default();
    // Receiving unmasks the buffer in place, so the masked batch is copied for each round.
    let mut buffer = batch.clone();
    bencher.counter(BytesCount::new(16 * size)).bench_local(|| {
        buffer.copy_from_slice(&batch);
        let mut input = buffer.as_mut_slice();
        while let Some(message) = receiver.receive(&mut input, &mut pool).unwrap() {
            black_box(message);
        }
    });
}

#[divan::bench(args = SIZES)]
fn receive_by_tungstenite(bencher: Bencher<'_, '_>, size: usize) {
    let batch = frames(size);
    let stream = Repeated { batch, position: 0 };
    let mut socket = WebSocket::from_raw_socket(stream, PeerRole::Server, None);
    bencher.counter(BytesCount::new(16 * size)).bench_local(|| {
        for _ in 0..16 {
            black_box(socket.read().unwrap());
        }
    });
}

/// Numbers of clients that send in turn.
const CLIENTS: [usize; 4] = [1, 50, 200, 1_000];

/// Compressed messages of 1 KiB, each without context.
#[divan::bench(args = CLIENTS)]
fn inflate_without_context(bencher: Bencher<'_, '_>, clients: usize) {
    inflate(bencher, clients, true);
}

/// The same messages, but each refers to the client's earlier messages, up to 32 KiB back. The
/// median for 50 clients should be at most 1.15 times the median without context.
#[divan::bench(args = CLIENTS)]
fn inflate_with_context(bencher: Bencher<'_, '_>, clients: usize) {
    inflate(bencher, clients, false);
}

fn inflate(bencher: Bencher<'_, '_>, clients: usize, client_no_context_takeover: bool) {
    let parameters = DeflateParameters {
        server_no_context_takeover: true,
        client_no_context_takeover,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };
    let mut compress = Compress::new(Compression::default(), false);
    let mut rounds: Vec<Vec<u8>> = (0..64)
        .map(|round| {
            if client_no_context_takeover {
                compress.reset();
            }
            compressed_frame(&mut compress, &json(round))
        })
        .collect();
    let mut pool = AssemblyPool::default();
    let mut receivers: Vec<Receiver> = (0..clients)
        .map(|_| Receiver::new(Role::Server, SizeLimits::default()).with_deflate(&parameters))
        .collect();
    // A repeated message refers to the same earlier messages as the first time.
    let mut receive = |client: usize, round: usize| {
        let frame: &mut [u8] = &mut rounds[round];
        let mut input = &mut *frame;
        let message = receivers[client].receive(&mut input, &mut pool).unwrap();
        assert!(matches!(message, Some(Message::Binary(payload)) if payload.len() == 1 << 10));
        black_box(message);
        apply_masking_key(&mut frame[8..], KEY, 0);
    };
    // Fills every window before the measurement.
    for round in 0..64 {
        (0..clients).for_each(|client| receive(client, round));
    }
    let (mut client, mut round) = (0, 0);
    bencher
        .counter(BytesCount::new(1_usize << 10))
        .bench_local(|| {
            receive(client, round);
            client = (client + 1) % clients;
            if client == 0 {
                round = (round + 1) % 64;
            }
        });
}

/// 1 KiB of JSON, different in each round.
fn json(round: u32) -> Vec<u8> {
    let mut random = round;
    let mut text = String::new();
    while text.len() < 1 << 10 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (id, price) = (random >> 12, random >> 20);
        text.push_str(&format!(
            r#"{{"id":{id},"user":"user{}","price":{price}.{},"side":"buy"}},"#,
            id % 977,
            id % 89,
        ));
    }
    text.truncate(1 << 10);
    text.into_bytes()
}

/// A masked frame of a compressed message, with a length of 16 bits.
fn compressed_frame(compress: &mut Compress, text: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(4 << 10);
    compress
        .compress_vec(text, &mut payload, FlushCompress::Sync)
        .unwrap();
    payload.truncate(payload.len() - 4);
    assert!((126..1 << 10).contains(&payload.len()));
    apply_masking_key(&mut payload, KEY, 0);
    let header = FrameHeader {
        rsv1: true,
        fin: true,
        opcode: OpCode::Binary,
        masking_key: Some(KEY),
        payload_length: payload.len() as u64,
    };
    [header.encode().as_ref(), &payload].concat()
}

/// Writes 16 binary frames into one buffer.
#[divan::bench(args = SIZES)]
fn send(bencher: Bencher<'_, '_>, size: usize) {
    let payload = vec![0x5A; size];
    let mut output = Vec::with_capacity(16 * (size + 10));
    bencher.counter(BytesCount::new(16 * size)).bench_local(|| {
        output.clear();
        for _ in 0..16 {
            Sender::default().send(Message::Binary(black_box(&payload)), &mut output);
        }
        black_box(&output);
    });
}

#[divan::bench(args = SIZES)]
fn send_by_tungstenite(bencher: Bencher<'_, '_>, size: usize) {
    let payload = bytes::Bytes::from(vec![0x5A; size]);
    let mut socket = WebSocket::from_raw_socket(Void, PeerRole::Server, None);
    bencher.counter(BytesCount::new(16 * size)).bench_local(|| {
        for _ in 0..16 {
            let message = tungstenite::Message::Binary(black_box(&payload).clone());
            socket.write(message).unwrap();
        }
        socket.flush().unwrap();
    });
}

fn frames(size: usize) -> Vec<u8> {
    let header = FrameHeader {
        rsv1: false,
        fin: true,
        opcode: OpCode::Binary,
        masking_key: Some(KEY),
        payload_length: size as u64,
    };
    let mut payload = vec![0x5A; size];
    apply_masking_key(&mut payload, KEY, 0);
    [header.encode().as_ref(), &payload].concat().repeat(16)
}

/// A reader that repeats the same bytes.
struct Repeated {
    batch: Vec<u8>,
    position: usize,
}

impl Read for Repeated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = (&self.batch[self.position..]).read(buffer)?;
        self.position = (self.position + bytes) % self.batch.len();
        Ok(bytes)
    }
}

impl Write for Repeated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Accepts and discards all bytes.
struct Void;

impl Read for Void {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Void {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! The codec alone, without sockets: octets per second against `memcpy` and against tungstenite.
//!
//! `cargo bench --bench codec`; a filter may follow, as in `cargo bench --bench codec -- unmask`.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::io::{self, Read, Write};

use divan::Bencher;
use divan::counter::BytesCount;
use frameloop::protocol::mask::apply_masking_key;
use frameloop::protocol::utf8::Utf8Validator;
use frameloop::protocol::{
    AssemblyPool, FrameHeader, Limits, Message, OpCode, Receiver, Role, Sender,
};
use tungstenite::protocol::{Role as PeerRole, WebSocket};

const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
const SIZES: [usize; 5] = [20, 125, 1 << 10, 16 << 10, 1 << 20];

fn main() {
    divan::main();
}

/// Unmasking in place, at every alignment in turn.
#[divan::bench(args = SIZES)]
fn unmask(bencher: Bencher<'_, '_>, size: usize) {
    let mut buffer = vec![0x5A; size + 64];
    let mut start = 0;
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        start = (start + 1) % 64;
        apply_masking_key(black_box(&mut buffer[start..start + size]), KEY, start);
    });
}

/// The limit: the same octets copied, at every alignment in turn.
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

/// 16 masked binary frames that one read brought.
#[divan::bench(args = SIZES)]
fn receive(bencher: Bencher<'_, '_>, size: usize) {
    let batch = frames(size);
    let mut receiver = Receiver::new(Role::Server, Limits::default());
    let mut pool = AssemblyPool::default();
    // Unmasking twice gives the masked frames back, so the batch is copied for each round.
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

/// 16 binary frames into one buffer.
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

/// The same octets over and over.
struct Repeated {
    batch: Vec<u8>,
    position: usize,
}

impl Read for Repeated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let octets = (&self.batch[self.position..]).read(buffer)?;
        self.position = (self.position + octets) % self.batch.len();
        Ok(octets)
    }
}

impl Write for Repeated {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes everything.
struct Void;

impl Read for Void {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Void {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

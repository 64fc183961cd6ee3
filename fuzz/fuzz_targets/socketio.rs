#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| properties::socketio::check(input));

#[path = "../properties.rs"]
mod properties;

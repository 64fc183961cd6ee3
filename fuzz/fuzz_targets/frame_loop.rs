#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| properties::frame_loop::check(input));

#[path = "../properties.rs"]
mod properties;

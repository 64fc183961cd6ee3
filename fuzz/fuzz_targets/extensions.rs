#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| properties::extensions::check(input));

#[path = "../properties.rs"]
mod properties;

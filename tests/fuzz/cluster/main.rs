//! Runs libFuzzer's inputs as `cluster`.
#![no_main]

mod input;

libfuzzer_sys::fuzz_target!(|data: &[u8]| input::run(data));

//! Runs libFuzzer's inputs as `pickle`.
#![no_main]

mod input;

libfuzzer_sys::fuzz_target!(|data: &[u8]| input::run(data));

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::control_json::run(data));

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::msgi_frame::run(data));

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nanny_fuzz::project(data));

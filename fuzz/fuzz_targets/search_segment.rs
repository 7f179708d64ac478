#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    trivec_search::fuzzing::segment(bytes);
});

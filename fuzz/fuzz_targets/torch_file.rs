#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    trivec::fuzzing::torch_file(bytes);
});

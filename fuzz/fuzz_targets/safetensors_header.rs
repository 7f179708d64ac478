#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    trivec::fuzzing::safetensors_header(bytes);
});

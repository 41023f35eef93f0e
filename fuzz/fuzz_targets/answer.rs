#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| keybearer::fuzzing::answer(bytes));

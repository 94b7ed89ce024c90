#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    xvault_fuzz_harness::wp_config(data);
});

//! `xvault-hub`, built with the tests that run it.

fn main() -> std::process::ExitCode {
    xvault_hub::program::run()
}

//! `xvault-worker`, built with the tests that run it.

fn main() -> std::process::ExitCode {
    xvault_worker::program::run()
}

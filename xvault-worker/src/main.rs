//! `xvault-worker`: the data plane as a program.

fn main() -> std::process::ExitCode {
    xvault_worker::program::run()
}

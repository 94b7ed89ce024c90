//! `xvault-hub`: the control plane as a program.

fn main() -> std::process::ExitCode {
    xvault_hub::program::run()
}

//! The `xvault` command, built with the tests that run its `up`.

fn main() -> std::process::ExitCode {
    xvault_cli::main()
}

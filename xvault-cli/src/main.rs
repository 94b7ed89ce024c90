//! The `xvault` command.

fn main() -> std::process::ExitCode {
    xvault_cli::main()
}

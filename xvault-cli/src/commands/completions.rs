//! `xvault completions`: a script for a shell.

use std::io::{self, Write};

use clap::CommandFactory;

use crate::Outcome;
use crate::args::{Cli, CompletionsArgs};

pub(super) fn run(args: &CompletionsArgs) -> anyhow::Result<Outcome> {
    // Into memory first: the generator panics when its output is a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "xvault", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(Outcome::Done)
}

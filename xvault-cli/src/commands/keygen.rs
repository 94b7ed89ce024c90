//! `xvault keygen`: a new key.

use serde_json::json;

use crate::args::KeygenArgs;
use crate::output::Output;
use crate::{Outcome, keys};

pub(super) fn run(args: &KeygenArgs, output: &Output) -> anyhow::Result<Outcome> {
    let path = match &args.output {
        Some(path) => path.clone(),
        None => keys::default_path()?,
    };
    let recipient = keys::create(&path)?;
    output.say(&format!(
        "identity kept in {}: whoever has this file can read your backups, and without it nobody can",
        path.display()
    ));
    let value = json!({"recipient": recipient, "identity_file": path.to_string_lossy()});
    output.result(&value, || recipient.to_string())?;
    Ok(Outcome::Done)
}

//! Whether the evidence of a pull goes with what the sink got.

use xvault_core::snapshot::{ContentSummary, Evidence};

/// What is wrong with it, in a sentence.
pub(super) fn fault(evidence: &Evidence, content: &ContentSummary) -> Option<String> {
    proof(evidence, content.warnings).err().or_else(|| {
        let bodies = bodies(evidence)?;
        let came = content.files;
        (bodies != came).then(|| format!("the evidence is of {bodies} bodies, and the sink got {came}"))
    })
}

/// Whether it proves anything. A tar that failed at what it could not read has said so: that is what the warnings are.
fn proof(evidence: &Evidence, warnings: u64) -> Result<(), String> {
    match evidence {
        Evidence::Walk { directories: 0, files: 0 } => {
            Err("the evidence is of a walk that read nothing".to_owned())
        }
        Evidence::Tar { entries: 0, .. } => Err("the evidence is of a tar that held nothing".to_owned()),
        Evidence::Tar { exit_status, .. } if *exit_status > 2 || *exit_status == 2 && warnings == 0 => {
            Err(format!("the evidence is of a tar that failed: it exited with {exit_status}"))
        }
        Evidence::Dump { tool, server, .. } if tool.is_empty() || server.is_empty() => {
            Err("the evidence names no tool, or no server".to_owned())
        }
        Evidence::Site { databases, files } => {
            databases.iter().chain([&**files]).try_for_each(|evidence| proof(evidence, warnings))
        }
        _ => Ok(()),
    }
}

/// The bodies that it is of. `None`: that kind does not count them.
fn bodies(evidence: &Evidence) -> Option<u64> {
    match evidence {
        Evidence::Walk { files, .. } => Some(*files),
        Evidence::Dump { dumps, .. } => Some(*dumps),
        Evidence::Site { databases, files } => databases.iter().chain([&**files]).map(bodies).sum(),
        _ => None,
    }
}

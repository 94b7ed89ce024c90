//! Commands of the documentation, run as they are printed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The block of a page that begins with the comment `name`.
pub(crate) fn block(page: &str, name: &str) -> String {
    let start = format!("```sh\n# {name}\n");
    let (_, rest) = page.split_once(&start).unwrap_or_else(|| panic!("the page has no block `{name}`"));
    rest.split_once("```").unwrap().0.to_owned()
}

/// A shell of an operator, in a directory of its own, with `xvault` and `xvault-hub` on the path and no other variables than these.
pub(crate) struct Shell {
    dir: PathBuf,
    variables: Vec<(String, String)>,
}

impl Shell {
    pub(crate) fn new(dir: &Path) -> Self {
        let (dir, bin) = (dir.to_owned(), dir.join("bin"));
        if !bin.exists() {
            fs::create_dir(&bin).unwrap();
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_up"), bin.join("xvault")).unwrap();
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_hub"), bin.join("xvault-hub")).unwrap();
        }
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let home = dir.to_str().unwrap().to_owned();
        Self { dir, variables: vec![("PATH".to_owned(), path), ("HOME".to_owned(), home)] }
    }

    /// With this variable, too, or with another value of it.
    pub(crate) fn with(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.set(name, value);
        self
    }

    pub(crate) fn set(&mut self, name: &str, value: impl AsRef<str>) {
        self.variables.retain(|(other, _)| other != name);
        self.variables.push((name.to_owned(), value.as_ref().to_owned()));
    }

    pub(crate) fn output(&self, commands: &str) -> Output {
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", commands]).current_dir(&self.dir).env_clear();
        bash.envs(self.variables.iter().map(|(name, value)| (name, value)));
        bash.output().unwrap()
    }

    /// What the commands print, which must work.
    pub(crate) fn run(&self, commands: &str) -> String {
        let output = self.output(commands);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{commands}\n{said}");
        String::from_utf8(output.stdout).unwrap()
    }
}

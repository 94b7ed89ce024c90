//! Programs that the setup keeps where only its user gets to: a copy that every user may run, for as long as this process lives.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::keeper::Keeper;
use crate::tools::{command, own_folder, run};

/// A copy of directories, gone when this process ends.
#[derive(Debug)]
pub(crate) struct Lent {
    keeper: Keeper,
}

impl Lent {
    /// Copies `folders`, each under its own name.
    pub(crate) fn of(folders: &[PathBuf]) -> Self {
        let keeper = Keeper::new("xvt-programs", Signal::KILL);
        fs::set_permissions(keeper.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for folder in folders {
            let _ = run(command("cp", ["-a", "--reflink=auto"]).arg(folder).arg(keeper.path()));
        }
        Self { keeper }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.keeper.path().join(below)
    }
}

/// What Python package `name` was installed as, in the setup's own environment.
pub(crate) fn python_package(name: &str) -> Option<PathBuf> {
    let versions = fs::read_dir(own_folder("venv/lib")?).ok()?.flatten();
    let mut places = versions.map(|version| version.path().join("site-packages").join(name));
    places.find(|place| place.is_dir())
}

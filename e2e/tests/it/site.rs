//! A server with things to back up, and a tap on the line to it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use xvault_testkit::{FaultProxy, Sshd, trees};

use crate::wait::until;

/// What a closed tap lets through: logins and the first files, far less than a busy tree.
const LET_THROUGH: u64 = 1 << 20;
/// A file that does not fit through a closed tap.
const BUSY_BYTES: u64 = 4 << 20;

/// An SSH server with trees in its user's home.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) sshd: Sshd,
    /// The line that [`Site::tapped`] sources are read through.
    pub(crate) tap: FaultProxy,
}

impl Site {
    pub(crate) fn start() -> Self {
        let sshd = Sshd::builder().start();
        let tap = FaultProxy::start(sshd.port);
        Self { sshd, tap }
    }

    /// A tree of a few small files; gives its path.
    pub(crate) fn small_tree(&self, name: &str) -> PathBuf {
        let tree = self.sshd.home.join(name);
        trees::small_files(&tree, 12, 700);
        fs::write(tree.join("letter with spaces.txt"), name).unwrap();
        tree
    }

    /// A tree that does not pass a closed tap; gives its path.
    pub(crate) fn busy_tree(&self, name: &str) -> PathBuf {
        let tree = self.small_tree(name);
        trees::random_file(&tree.join("z.bin"), BUSY_BYTES, 11);
        tree
    }

    /// Settings of a source that is read directly.
    pub(crate) fn direct(&self, tree: &Path) -> Value {
        self.settings(self.sshd.port, tree)
    }

    /// Settings of a source that is read through the tap.
    pub(crate) fn tapped(&self, tree: &Path) -> Value {
        self.settings(self.tap.port, tree)
    }

    fn settings(&self, port: u16, tree: &Path) -> Value {
        json!({
            "host": "127.0.0.1",
            "port": port,
            "username": self.sshd.user,
            "paths": [tree],
            "use_password": true,
            "host_key": self.sshd.host_key.fingerprint,
        })
    }

    /// Lets nothing more through than a beginning.
    pub(crate) fn close_tap(&self) {
        self.tap.stall_after(LET_THROUGH);
    }

    /// Waits until a backup has got all that a closed tap lets through: it is in the middle now, and stays there.
    pub(crate) fn until_in_the_middle(&self) {
        until(60, "a backup in its middle", || self.tap.bytes_to_client() >= LET_THROUGH);
    }

    pub(crate) fn open_tap(&self) {
        self.tap.heal();
    }
}

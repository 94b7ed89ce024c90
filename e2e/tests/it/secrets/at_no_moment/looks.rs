//! Looks at every place that a password could show in, and what they found there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use xvault_testkit::{Mariadb, Postgres};

use super::super::{Secret, contains};
use crate::fleet::{Fleet, files_below};

/// What the looks at processes must have come across, or they were too few: tools, and the script that runs them on the SSH server.
pub(super) const TOOLS: [&str; 7] =
    ["pg_dump", "pg_restore", "mariadb-dump", "psql", "mariadb", "sshd", "mktemp /dev/shm"];

/// A longer file than one with a password in it is.
const LONG: u64 = 64 << 10;

/// What looks while something is done, and what it has found so far.
pub(super) struct Looks<'a> {
    fleet: &'a Fleet,
    secrets: &'a [Secret],
    since: Timestamp,
    /// Place and secret.
    found: Mutex<BTreeSet<(&'static str, String)>>,
    looks: Mutex<BTreeMap<&'static str, u32>>,
    tools: Mutex<BTreeSet<&'static str>>,
    /// Processes, with what they have been called.
    known: Mutex<BTreeSet<(PathBuf, Vec<u8>)>>,
}

impl<'a> Looks<'a> {
    pub(super) fn new(fleet: &'a Fleet, secrets: &'a [Secret]) -> Self {
        let since = xvault_core::clock::now();
        let (found, looks, tools, known) = Default::default();
        Self { fleet, secrets, since, found, looks, tools, known }
    }

    /// Looks everywhere again and again while `act` runs.
    pub(super) fn while_doing<T>(&self, act: impl FnOnce(&Self) -> T) -> T {
        let stop = AtomicBool::new(false);
        let again = |pause: u64, look: &dyn Fn()| {
            while !stop.load(Ordering::Relaxed) {
                look();
                std::thread::sleep(Duration::from_millis(pause));
            }
        };
        // Processes and files come and go; what is kept stays.
        let done = std::thread::scope(|scope| {
            scope.spawn(|| again(1, &|| self.look_at_processes()));
            scope.spawn(|| again(10, &|| self.look_at_files()));
            scope.spawn(|| again(200, &|| self.look_at_what_is_kept()));
            let done = catch_unwind(AssertUnwindSafe(|| act(self)));
            stop.store(true, Ordering::Relaxed);
            done
        });
        done.unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn look(&self, place: &'static str, bytes: &[u8]) {
        *self.looks.lock().unwrap().entry(place).or_default() += 1;
        let text = String::from_utf8_lossy(bytes);
        for secret in self.secrets.iter().filter(|secret| secret.is_in_text(&text)) {
            self.found.lock().unwrap().insert((place, secret.what.clone()));
        }
    }

    /// A program has one environment: who has been looked at is passed over, and the looks come often enough for those that live shortly.
    fn look_at_processes(&self) {
        for process in files_in(Path::new("/proc")) {
            let Ok(line) = fs::read(process.join("cmdline")) else { continue };
            if line.is_empty() || !self.known.lock().unwrap().insert((process.clone(), line.clone())) {
                continue;
            }
            self.look("command lines", &line);
            self.look("environments", &fs::read(process.join("environ")).unwrap_or_default());
            let new = TOOLS.iter().filter(|tool| contains(&line, tool.as_bytes()));
            self.tools.lock().unwrap().extend(new);
        }
    }

    /// Who runs a tool elsewhere keeps the password in a file in memory for an instant, which nobody else may read. Other files never have it.
    fn look_at_files(&self) {
        self.look("files in memory that others may read", &in_memory(|mode| mode & 0o077 != 0));
        let home = &self.fleet.site.sshd.home;
        let folders = [Path::new("/tmp"), Path::new("/var/tmp"), home.as_path()].map(files_in);
        let own = files_below(self.fleet.dir.path());
        let files = folders.into_iter().flatten().chain(own);
        let is_new = |file: &Metadata| {
            let modified = file.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
            file.is_file() && file.len() < LONG && modified.is_some_and(|time| time >= self.since)
        };
        let new = files.filter(|file| fs::symlink_metadata(file).is_ok_and(|file| is_new(&file)));
        self.look("files on disks", &contents(new));
    }

    fn look_at_what_is_kept(&self) {
        let fleet = self.fleet;
        self.look("log of the hub", fleet.hubs[0].program.log().as_bytes());
        self.look("log of the worker", fleet.workers[0].program.log().as_bytes());
        self.look("log of the SSH server", fleet.site.sshd.log().as_bytes());
        self.look("log of PostgreSQL", Postgres::shared().log().as_bytes());
        self.look("log of MariaDB", Mariadb::shared().log().as_bytes());
        self.look("Redis", &fleet.redis.dump_everything());
        self.look("the hub's database", &Postgres::shared().dump(&fleet.database));
    }

    pub(super) fn found(&self) -> Vec<(&'static str, String)> {
        self.found.lock().unwrap().iter().cloned().collect()
    }

    /// Where it has looked.
    pub(super) fn places(&self) -> Vec<&'static str> {
        self.looks.lock().unwrap().keys().copied().collect()
    }

    /// The tools that the looks have come across.
    pub(super) fn tools(&self) -> BTreeSet<&'static str> {
        self.tools.lock().unwrap().clone()
    }

    pub(super) fn assert_many(&self) {
        let looks = self.looks.lock().unwrap();
        eprintln!("looks: {looks:?}");
        assert!(looks["command lines"] >= 40 && looks["files on disks"] >= 40, "{looks:?}");
        assert!(looks["the hub's database"] >= 5, "{looks:?}");
    }
}

/// What lies in `/dev/shm` in files whose permissions are such.
pub(super) fn in_memory(are: impl Fn(u32) -> bool) -> Vec<u8> {
    let is_one = |file: &Metadata| file.is_file() && are(file.permissions().mode());
    let files = files_in(Path::new("/dev/shm")).into_iter();
    contents(files.filter(|file| fs::symlink_metadata(file).is_ok_and(|file| is_one(&file))))
}

/// What is named in a directory.
fn files_in(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// One after the other, without those that are gone.
fn contents(files: impl Iterator<Item = PathBuf>) -> Vec<u8> {
    files.filter_map(|file| fs::read(file).ok()).collect::<Vec<_>>().join(&b'\n')
}

//! Users of the system: one of its own for a server, for password logins.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::tools::{command, run};

/// Removed from the system on drop.
#[derive(Debug)]
pub(crate) struct SystemUser {
    pub(crate) name: String,
    pub(crate) password: String,
}

impl SystemUser {
    /// Adds a user whose home is `home` and whose login shell is `shell`; the home is given to it.
    pub(crate) fn create(home: &Path, shell: &Path) -> Self {
        remove_left_behind();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("xvt{}x{number}", std::process::id());
        let password = format!("pw {}'{number}\"$x of its own", std::process::id());
        let hash = hash(&password);
        let home_text = home.to_str().expect("temp dirs are UTF-8");
        let shell = shell.to_str().unwrap();
        let args = ["-M", "-d", home_text, "-s", shell, "-p", hash.trim(), &name];
        retry(&format!("useradd {name}"), || succeeded("useradd", &args));
        let user = Self { name, password };
        let (uid, gid) = user.ids();
        std::os::unix::fs::chown(home, Some(uid), Some(gid)).unwrap();
        user
    }

    /// Numeric user and group.
    pub(crate) fn ids(&self) -> (u32, u32) {
        ids_of(&self.name).unwrap()
    }
}

/// As /etc/shadow keeps it. Nobody sees the password in the process list.
fn hash(password: &str) -> String {
    let (read, mut write) = std::io::pipe().unwrap();
    write.write_all(password.as_bytes()).unwrap();
    drop(write);
    let hash = run(command("openssl", ["passwd", "-6", "-stdin"]).stdin(read));
    String::from_utf8(hash).unwrap()
}

/// Numeric user and group of a user of the system.
pub(crate) fn ids_of(name: &str) -> Option<(u32, u32)> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut ids = line.split(':').skip(2).map(|field| field.parse().unwrap());
    Some((ids.next().unwrap(), ids.next().unwrap()))
}

impl Drop for SystemUser {
    fn drop(&mut self) {
        // `-f`: a session that is just ending must not keep the user for ever.
        for _ in 0..20 {
            if succeeded("userdel", &["-f", &self.name]) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A test run that was killed drops nothing: the next one removes its users.
fn remove_left_behind() {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    for name in passwd.lines().filter_map(|line| line.split(':').next()) {
        let pid = name.strip_prefix("xvt").and_then(|rest| rest.split_once('x')).map(|(pid, _)| pid);
        let dead = |pid: &str| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists();
        if pid.is_some_and(dead) {
            succeeded("userdel", &["-f", name]);
        }
    }
}

fn succeeded(program: &str, args: &[&str]) -> bool {
    let mut command = command(program, args);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

/// Tests run in parallel, and the user database takes one writer at a time.
fn retry(what: &str, mut attempt: impl FnMut() -> bool) {
    for _ in 0..100 {
        if attempt() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{what} did not succeed in ten seconds; it needs root");
}

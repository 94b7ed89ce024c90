//! What Landlock takes away from a tool of this machine: files that it does not need, all writing, every port but its server's, and
//! signals to processes that are not its own. A kernel that has less of it takes away less.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use landlock::{
    ABI, Access, AccessFs, AccessNet, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope, path_beneath_rules,
};

use super::{ToolOptions, authorities};

/// The newest features that are asked for: files since Linux 5.13, ports since 6.7, signals since 6.12.
const FEATURES: ABI = ABI::V6;

/// Programs and their libraries.
const PROGRAMS: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store"];

/// What programs read of the system to run at all, to find hosts and users, and to check certificates. `/etc` as a whole holds
/// other programs' secrets.
const READ: [&str; 23] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/resolv.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/passwd",
    "/etc/group",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/alternatives",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/openssl.cnf",
    "/etc/pki/ca-trust",
    "/etc/crypto-policies",
    "/proc/sys/kernel/cap_last_cap",
    "/dev/random",
    "/dev/urandom",
];

/// Also written to.
const NOWHERE: &str = "/dev/null";

/// Of name servers, whose long answers come over TCP.
const DNS: u16 = 53;

/// Runs `start` in a thread of its own that has lost everything but what the tool `program` needs to talk to `port`: whatever it
/// starts has lost that, too, and for good.
pub(super) fn inside<T: Send>(
    program: &Path,
    port: Option<u16>,
    options: &ToolOptions,
    start: impl FnOnce() -> std::io::Result<T> + Send,
) -> std::io::Result<T> {
    if !options.landlock {
        return start();
    }
    let runtime = tokio::runtime::Handle::current();
    let confined = || {
        let _runtime = runtime.enter();
        let _ = confine(&readable(program, options), port).map_err(std::io::Error::other)?;
        start()
    };
    let ended = std::thread::scope(|scope| scope.spawn(confined).join());
    ended.unwrap_or_else(|_| Err(std::io::Error::other("the thread that starts it broke")))
}

/// Takes the calling thread's rights away; says how far the kernel can.
fn confine(readable: &[PathBuf], port: Option<u16>) -> Result<RulesetStatus, RulesetError> {
    let read = AccessFs::from_read(FEATURES);
    let ports = [port, Some(DNS).filter(|_| port.is_some())].into_iter().flatten();
    let connect = ports.map(|port| Ok::<_, RulesetError>(NetPort::new(port, AccessNet::ConnectTcp)));
    let confined = Ruleset::default()
        .handle_access(AccessFs::from_all(FEATURES))?
        .handle_access(AccessNet::from_all(FEATURES))?
        .scope(Scope::from_all(FEATURES))?
        .create()?
        .add_rules(path_beneath_rules(readable, read))?
        .add_rules(path_beneath_rules(READ, AccessFs::ReadFile | AccessFs::ReadDir))?
        .add_rules(path_beneath_rules([NOWHERE], AccessFs::ReadFile | AccessFs::WriteFile))?
        .add_rules(connect)?
        .restrict_self()?;
    Ok(confined.ruleset)
}

/// Where programs lie: the system's, and that of `program` itself with what it was installed with.
fn readable(program: &Path, options: &ToolOptions) -> Vec<PathBuf> {
    let own = program.parent().map(Path::to_owned);
    let installed = own.iter().chain(&options.folders).map(|folder| installation(folder));
    let system = PROGRAMS.iter().map(PathBuf::from);
    system.chain(installed).chain(authorities()).collect()
}

/// `/opt/pg` of `/opt/pg/bin`: libraries lie beside that.
fn installation(folder: &Path) -> PathBuf {
    match folder.parent() {
        Some(parent) if folder.ends_with("bin") => parent.to_owned(),
        _ => folder.to_owned(),
    }
}

/// Whether this kernel has Landlock at all.
fn is_there() -> bool {
    static THERE: OnceLock<bool> = OnceLock::new();
    *THERE.get_or_init(|| {
        let tried = std::thread::scope(|scope| scope.spawn(|| confine(&[], None)).join());
        matches!(tried, Ok(Ok(status)) if status != RulesetStatus::NotEnforced)
    })
}

/// What is to be told where tools run without Landlock; `None` where it holds them.
pub(crate) fn weakness(options: &ToolOptions) -> Option<String> {
    let held = options.landlock && is_there();
    (!held).then(|| {
        format!(
            "tools run without Landlock, which this machine does not have or may not use: one that a hostile server took over \
             could read what user {} may read here",
            options.owner()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_was_installed_with_lies_beside_its_folder() {
        for (folder, expected) in
            [("/opt/pg/bin", "/opt/pg"), ("/tmp/mine", "/tmp/mine"), ("/", "/"), ("bin", "")]
        {
            assert_eq!(installation(Path::new(folder)), Path::new(expected), "{folder}");
        }
    }

    #[test]
    fn a_machine_without_landlock_says_so() {
        let without = ToolOptions { landlock: false, ..ToolOptions::default() };
        assert!(weakness(&without).unwrap().contains("without Landlock"));
        assert_eq!(weakness(&ToolOptions::default()).is_none(), is_there());
    }
}

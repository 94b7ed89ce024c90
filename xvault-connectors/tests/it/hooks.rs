//! Commands around a pull, on a real server.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use xvault_connectors::source::{Hooked, Source};
use xvault_connectors::ssh::{HostKeyPolicy, SshOptions};
use xvault_connectors::{Control, Error, PullSummary};
use xvault_core::error::chain;
use xvault_core::monitor::Recorder;
use xvault_core::source::{Hook, Hooks, OnFailure};
use xvault_core::{Dispose, Disposition};
use xvault_testkit::tools::{command, run};
use xvault_testkit::{FaultProxy, Sshd};

use crate::db_support::{Db, Way};
use crate::ssh_support::{BOTH, Job, Kept, Kind, key, turning};

/// A pull of the directory `tree` in the account's home, with commands around it.
struct Around {
    sshd: Sshd,
    tree: PathBuf,
    hooks: Hooks,
}

impl Around {
    fn new() -> Self {
        Self::on(Sshd::builder().start())
    }

    fn on(sshd: Sshd) -> Self {
        let tree = sshd.home.join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("file"), "x").unwrap();
        let (uid, gid) = sshd.ids();
        let _ = run(command("chown", ["-R", &format!("{uid}:{gid}")]).arg(&tree));
        Self { sshd, tree, hooks: Hooks::default() }
    }

    fn before(mut self, command: &str) -> Self {
        self.hooks.before = Some(Hook::new(command));
        self
    }

    fn after(mut self, command: &str) -> Self {
        self.hooks.after = Some(Hook::new(command));
        self
    }

    fn warns(mut self) -> Self {
        let Hooks { before, after } = self.hooks;
        self.hooks = Hooks { before: before.map(warning), after: after.map(warning) };
        self
    }

    fn within(mut self, seconds: u32) -> Self {
        for hook in [&mut self.hooks.before, &mut self.hooks.after].into_iter().flatten() {
            hook.timeout_seconds = seconds;
        }
        self
    }

    fn source(&self, kind: Kind, path: &Path) -> Box<dyn Source> {
        let job = Job::new(kind, &self.sshd, &[path]);
        Hooked::around(job.source(), &self.hooks, Some(&job.options))
    }

    /// What was pulled, how it ended, and what was told.
    async fn pull(&self, kind: Kind) -> (Kept, Result<PullSummary, Error>, Vec<String>) {
        let (mut kept, seen) = (Kept::default(), Arc::new(Recorder::default()));
        let control = Control::default().with_progress(seen.clone());
        let mut source = self.source(kind, &self.tree);
        let pulled = tokio::time::timeout(Duration::from_secs(60), source.pull(&mut kept, &control)).await;
        (kept, pulled.expect("the pull hangs"), seen.notes())
    }

    fn has(&self, name: &str) -> bool {
        self.sshd.home.join(name).exists()
    }
}

fn warning(hook: Hook) -> Hook {
    Hook { on_failure: OnFailure::Warn, ..hook }
}

fn told(notes: &[String], text: &str) -> bool {
    notes.iter().any(|note| note.contains(text))
}

#[tokio::test]
async fn one_runs_before_all_is_read_and_one_after() {
    for kind in BOTH {
        let around = Around::new()
            .before("cat; echo 'it'\"'\"'s made'; echo made > tree/dump; echo said >&2")
            .after("cat tree/dump && rm tree/dump && printf 'no line end'");
        let (kept, pulled, notes) = around.pull(kind).await;
        pulled.unwrap();
        assert_eq!(kept.body(&around.tree.join("dump")), Some(&b"made\n"[..]), "{kind:?}");
        assert!(!around.tree.join("dump").exists());
        for text in
            ["hook before: it's made", "hook before: said", "hook after: made", "hook after: no line end"]
        {
            assert!(told(&notes, text), "{text}: {notes:?}");
        }
        assert!(!notes.iter().any(|note| note.contains("begins-here")), "{notes:?}");
    }
}

#[tokio::test]
async fn they_are_run_by_sh_whatever_the_login_shell_is() {
    for shell in ["tcsh", "fish"] {
        let around = Around::on(Sshd::builder().shell(shell).start())
            .before("x='it'\\''s !! made'\nprintf '%s\\n' \"$x\"")
            .after("exec sleep 60")
            .within(1)
            .warns();
        let (kept, pulled, notes) = around.pull(Kind::Ssh).await;
        pulled.unwrap();
        assert!(kept.body(&around.tree.join("file")).is_some());
        assert!(told(&notes, "hook before: it's !! made"), "{shell}: {notes:?}");
        assert!(told(&notes, "`after` was ended: it took longer than 1 s"), "{shell}: {notes:?}");
    }
}

#[tokio::test]
async fn a_failure_fails_the_backup_or_is_told_and_the_one_after_runs_in_any_case() {
    let around = Around::new().before("echo broken >&2; exit 3").after("touch after");
    let (kept, pulled, _) = around.pull(Kind::Ssh).await;
    let error = pulled.unwrap_err();
    assert!(matches!(&error, Error::Hook { hook: "before", .. }), "{error}");
    assert_eq!(error.to_string(), "the hook `before` failed: exit status 3: broken");
    assert!(kept.entries.is_empty() && around.has("after"));

    let around = Around::new().before("exit 3").after("no-such-program").warns();
    let (kept, pulled, notes) = around.pull(Kind::Ssh).await;
    assert_eq!(pulled.unwrap().content.warnings, 0);
    assert!(kept.body(&around.tree.join("file")).is_some());
    assert!(
        told(&notes, "`before` failed: exit status 3") && told(&notes, "`after` failed: exit status 127"),
        "{notes:?}"
    );

    let (_, pulled, _) = Around::new().after("kill -9 $$").pull(Kind::Sftp).await;
    assert!(matches!(pulled.unwrap_err(), Error::Hook { hook: "after", .. }));

    // The first cause is the one that is told.
    let around = Around::new().before("touch before").after("touch after; false");
    let mut source = around.source(Kind::Ssh, Path::new("/nowhere"));
    let error = source.pull(&mut Kept::default(), &Control::default()).await.unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error}");
    assert!(around.has("before") && around.has("after"));
}

#[tokio::test]
async fn what_takes_too_long_is_ended_with_all_that_it_started() {
    let stubborn =
        "trap '' TERM HUP INT; sleep 600 & echo $! > pid; echo $$ >> pid; echo waits; wait; sleep 600";
    let around = Around::new().before(stubborn).within(1);
    let started = Instant::now();
    let (_, pulled, _) = around.pull(Kind::Ssh).await;
    let error = pulled.unwrap_err().to_string();
    assert!(error.contains("it took longer than 1 s: waits"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    let pids = fs::read_to_string(around.sshd.home.join("pid")).unwrap();
    assert_eq!(pids.lines().count(), 2, "{pids}");
    for pid in pids.lines() {
        ends(pid).await;
    }
}

/// A busy machine takes its time to end what was killed.
async fn ends(pid: &str) {
    let stat = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let begun = Instant::now();
    while !stat().is_empty() && !stat().contains(") Z") {
        assert!(begun.elapsed() < Duration::from_secs(10), "it lives: {}", stat());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_is_left_in_the_background_is_not_waited_for() {
    let around = Around::new().before("sleep 30 & echo $! > pid");
    let started = Instant::now();
    around.pull(Kind::Ssh).await.1.unwrap();
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    let pid = fs::read_to_string(around.sshd.home.join("pid")).unwrap();
    assert!(Path::new("/proc").join(pid.trim()).exists(), "a server that a hook starts goes on");
}

#[tokio::test]
async fn output_is_told_line_by_line_up_to_a_limit_and_without_control_characters() {
    let flood = "printf '\\033[31mred\\033[0m\\n'; yes 0123456789 | head -n 300000; head -c 20000000 /dev/zero | tr '\\0' x";
    let around = Around::new().before(flood);
    let (_, pulled, notes) = around.pull(Kind::Ssh).await;
    pulled.unwrap();
    assert!(told(&notes, "hook before: \\u{1b}[31mred") && !notes.concat().contains('\u{1b}'));
    assert!(notes.len() < 220 && notes.iter().all(|note| note.len() < 1100), "{}", notes.len());
    assert!(told(&notes, "more lines than these are not told"), "{:?}", notes.last());
}

#[tokio::test]
async fn an_account_without_a_shell_has_no_hooks() {
    for (command, words) in [
        ("internal-sftp", "has no plain shell: This service allows sftp connections only."),
        ("echo go away", "has no plain shell: go away"),
    ] {
        let sshd = Sshd::builder().config(&format!("ForceCommand {command}")).start();
        let around = Around::on(sshd).before("touch before");
        let (kept, pulled, _) = around.pull(Kind::Sftp).await;
        let error = pulled.unwrap_err();
        assert!(matches!(error, Error::Hook { hook: "before", cause: Some(_), .. }), "{error:?}");
        assert!(chain(&error).starts_with("the hook `before` could not be run: the account on 127"));
        assert!(chain(&error).ends_with(words), "{}", chain(&error));
        assert!(kept.entries.is_empty() && !around.has("before"));
    }
}

/// As a command before a pull from elsewhere fares with a server that makes each command begin with `begins`.
async fn begun_by(begins: &str) -> Result<PullSummary, Error> {
    let around = Around::new().before("touch before").within(1);
    let slow = Sshd::builder().config(&format!("ForceCommand {begins}")).start();
    let job =
        Job::new(Kind::Sftp, &slow, &[]).with(|options| options.timeouts.connect = Duration::from_secs(4));
    let elsewhere = Job::new(Kind::Sftp, &around.sshd, &[&around.tree]);
    let mut source = Hooked::around(elsewhere.source(), &around.hooks, Some(&job.options));
    let pulled = source.pull(&mut Kept::default(), &Control::default()).await;
    assert_eq!(slow.home.join("before").exists(), pulled.is_ok());
    pulled
}

/// Such a server may be faster later.
#[tokio::test]
async fn a_shell_that_does_not_begin_in_time_is_no_missing_one() {
    let said = "; all that it said: wait";
    for (begins, said) in [("exec sleep 60", ""), ("echo wait; exec sleep 60", said)] {
        let error = begun_by(begins).await.unwrap_err();
        let Error::Hook { cause: Some(cause), .. } = &error else { panic!("{error:?}") };
        assert!(matches!(**cause, Error::Timeout { .. }), "{error:?}");
        let words = format!("which was to run a command{said}, did not answer within 4s");
        assert!(chain(&error).ends_with(&words), "{}", chain(&error));
        assert_eq!(error.disposition(), Disposition::Transient);
    }
}

#[tokio::test]
async fn a_shell_that_begins_late_runs_the_command() {
    begun_by("sleep 3; exec sh -c \"$SSH_ORIGINAL_COMMAND\"").await.unwrap();
}

/// Who was believed before the backup is who must be there after it, whatever a failure of the commands means.
#[tokio::test]
async fn the_server_after_a_backup_is_the_one_before_it() {
    let (around, other) =
        (Around::new().before("touch before").after("touch after").warns(), Sshd::builder().start());
    let job = Job::new(Kind::Ssh, &around.sshd, &[&around.tree]);
    let mut options = job.options.clone();
    options.host_key = HostKeyPolicy::AcceptNew;
    // One connection is the first command's.
    options.port = turning(around.sshd.port, 1, other.port);
    let mut source = Hooked::around(job.source(), &around.hooks, Some(&options));
    let error = source.pull(&mut Kept::default(), &Control::default()).await.unwrap_err();
    let Error::ChangedHostKey { expected, found, .. } = &error else { panic!("{error:?}") };
    assert_eq!([expected, found], [&around.sshd, &other].map(|sshd| &sshd.host_key.fingerprint));
    assert!(around.has("before") && !around.has("after"));
}

#[tokio::test]
async fn a_cancelled_pull_is_followed_by_the_command_after_it() {
    let around = Around::new().before("touch before").after("touch after");
    let cancel = CancellationToken::new();
    let control = Control::default().with_cancel(cancel.clone());
    let mut source = around.source(Kind::Ssh, &around.tree);
    assert!(source.wind_up() > Duration::from_secs(60));
    let mut kept = Kept { on_data: Some(Box::new(move |_| cancel.cancel())), ..Kept::default() };
    let error = source.pull(&mut kept, &control).await.unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert!(around.has("before") && around.has("after"));
}

/// It undoes what the other did, and must not be undone by it.
#[tokio::test]
async fn a_command_that_is_ended_has_ended_when_the_one_after_it_begins() {
    let stubborn = "trap '' TERM; exec >/dev/null 2>&1; while :; do echo >> beats; sleep 0.05; done";
    let looks = "cp beats then; sleep 0.4; cmp beats then || touch both; touch after";
    for is_cancelled in [true, false] {
        let around = Around::new().before(stubborn).after(looks).within(if is_cancelled { 60 } else { 2 });
        let cancel = CancellationToken::new();
        let control = Control::default().with_cancel(cancel.clone());
        let mut source = around.source(Kind::Ssh, &around.tree);
        let begun = async {
            while !around.has("beats") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if is_cancelled {
                cancel.cancel();
            }
        };
        let mut kept = Kept::default();
        let (pulled, ()) = tokio::join!(source.pull(&mut kept, &control), begun);
        let error = pulled.unwrap_err();
        assert_eq!(matches!(error, Error::Cancelled), is_cancelled, "{error:?}");
        assert!(kept.entries.is_empty() && around.has("after") && !around.has("both"), "{is_cancelled}");
    }
}

/// One that is about to begin never does.
#[tokio::test]
async fn a_command_that_is_cancelled_while_it_is_begun_is_not_run() {
    let slow = "ForceCommand sleep 1; exec sh -c \"$SSH_ORIGINAL_COMMAND\"";
    let around = Around::on(Sshd::builder().config(slow).start());
    let around = around.before("echo before >> order").after("echo after >> order");
    let cancel = CancellationToken::new();
    let control = Control::default().with_cancel(cancel.clone());
    let mut source = around.source(Kind::Ssh, &around.tree);
    let begun = async {
        while !around.sshd.log().contains("Starting session: forced-command") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cancel.cancel();
    };
    let mut kept = Kept::default();
    let (pulled, ()) = tokio::join!(source.pull(&mut kept, &control), begun);
    assert!(matches!(pulled, Err(Error::Cancelled)), "{pulled:?}");
    // The shell of the first began a second before that of the second.
    assert_eq!(fs::read_to_string(around.sshd.home.join("order")).unwrap(), "after\n");
    assert!(kept.entries.is_empty());
}

#[tokio::test]
async fn a_server_that_is_gone_when_all_was_read_is_a_failure_of_the_command_after() {
    for warns in [true, false] {
        let around = Around::new().before("touch before").after("touch after").within(1);
        let around = Arc::new(if warns { around.warns() } else { around });
        let ended = Arc::clone(&around);
        let (mut kept, seen) = (Kept::default(), Arc::new(Recorder::default()));
        kept.on_data = Some(Box::new(move |_| ended.sshd.stop_listening()));
        let control = Control::default().with_progress(seen.clone());
        let pulled = around.source(Kind::Ssh, &around.tree).pull(&mut kept, &control).await;
        assert_eq!(kept.body(&around.tree.join("file")), Some(&b"x"[..]));
        let why = format!("the hook `after` could not be run: connection to 127.0.0.1:{}", around.sshd.port);
        if warns {
            assert_eq!(pulled.unwrap().content.warnings, 0);
            assert!(told(&seen.notes(), &why), "{:?}", seen.notes());
        } else {
            let error = pulled.unwrap_err();
            assert!(matches!(&error, Error::Hook { hook: "after", cause: Some(_), .. }), "{error:?}");
            assert!(chain(&error).starts_with(&why), "{}", chain(&error));
            assert_eq!(error.disposition(), Disposition::Transient);
        }
        assert!(around.has("before") && !around.has("after"));
    }
}

/// What keeps the command before it from being run may spare the source.
#[tokio::test]
async fn a_command_before_that_can_not_be_run_is_a_failure_as_well() {
    let around = Around::new().before("touch before").within(1);
    let job = Job::new(Kind::Sftp, &around.sshd, &[&around.tree]);
    let stranger = key(&around.sshd.stranger_key());
    let gone = SshOptions { port: xvault_testkit::unused_port(), ..job.options.clone() };
    let refused = SshOptions { credential: stranger, ..job.options.clone() };
    for (options, disposition) in [(gone, Disposition::Transient), (refused, Disposition::Permanent)] {
        let mut source = Hooked::around(job.source(), &around.hooks, Some(&options));
        let error = source.pull(&mut Kept::default(), &Control::default()).await.unwrap_err();
        assert!(chain(&error).starts_with("the hook `before` could not be run: "), "{}", chain(&error));
        assert_eq!(error.disposition(), disposition, "{error:?}");

        let hooks = Hooks { before: around.hooks.before.clone().map(warning), after: None };
        let (mut kept, seen) = (Kept::default(), Arc::new(Recorder::default()));
        let control = Control::default().with_progress(seen.clone());
        let mut source = Hooked::around(job.source(), &hooks, Some(&options));
        source.pull(&mut kept, &control).await.unwrap();
        assert!(kept.body(&around.tree.join("file")).is_some());
        assert!(told(&seen.notes(), "`before` could not be run: "), "{:?}", seen.notes());
    }
    assert!(!around.has("before"));
}

#[tokio::test]
async fn a_server_that_is_back_in_time_runs_the_command() {
    let around = Around::new().before("echo x >> before");
    let proxy = FaultProxy::start(around.sshd.port);
    proxy.cut_once_after(100);
    let job = Job::new(Kind::Ssh, &around.sshd, &[&around.tree]);
    let options = SshOptions { port: proxy.port, ..job.options.clone() };
    let seen = Arc::new(Recorder::default());
    let control = Control::default().with_progress(seen.clone());
    let mut source = Hooked::around(job.source(), &around.hooks, Some(&options));
    source.pull(&mut Kept::default(), &control).await.unwrap();
    assert_eq!(fs::read_to_string(around.sshd.home.join("before")).unwrap(), "x\n");
    assert!(told(&seen.notes(), "once more in 3 s") && proxy.connections() == 2, "{:?}", seen.notes());
    assert!(!told(&seen.notes(), "could not be run"), "{:?}", seen.notes());
}

/// Nobody knows how far it came: it is not begun again.
#[tokio::test]
async fn a_connection_that_is_lost_while_a_command_runs_is_its_failure() {
    let around = Around::new().before("echo x >> before; echo begun; exec sleep 60").warns();
    let proxy = FaultProxy::start(around.sshd.port);
    let job = Job::new(Kind::Ssh, &around.sshd, &[&around.tree]);
    let options = SshOptions { port: proxy.port, ..job.options.clone() };
    let seen = Arc::new(Recorder::default());
    let control = Control::default().with_progress(seen.clone());
    let mut source = Hooked::around(job.source(), &around.hooks, Some(&options));
    let cut = async {
        while !told(&seen.notes(), "hook before: begun") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        proxy.cut_now();
    };
    let mut kept = Kept::default();
    let (pulled, ()) = tokio::join!(source.pull(&mut kept, &control), cut);
    assert_eq!(pulled.unwrap().content.warnings, 0);
    assert!(
        told(&seen.notes(), "`before` was lost sight of while it ran: connection to "),
        "{:?}",
        seen.notes()
    );
    assert_eq!(fs::read_to_string(around.sshd.home.join("before")).unwrap(), "x\n");
}

#[tokio::test]
async fn a_database_through_ssh_has_hooks_and_a_probe_runs_none() {
    let (server, sshd) = (xvault_testkit::Mariadb::shared(), Sshd::builder().start());
    let name = server.create_database();
    let db = Db::mysql(server, &name).by(Way::Tunnel, &sshd);
    let job = Job::new(Kind::Ssh, &sshd, &[]);
    let hooks = Hooks { before: Some(Hook::new("touch before")), after: None };
    let mut source = Hooked::around(db.source().unwrap(), &hooks, Some(&job.options));
    let probe = source.probe().await.unwrap();
    assert!(
        probe.notes.iter().any(|note| note.contains("`touch before`") && note.contains("60 s")),
        "{probe:?}"
    );
    assert!(!sshd.home.join("before").exists());
    source.pull(&mut Kept::default(), &Control::default()).await.unwrap();
    assert!(sshd.home.join("before").exists() && source.kind() == "mysql");
}

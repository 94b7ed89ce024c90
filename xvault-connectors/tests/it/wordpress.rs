//! Real WordPress sites as sources.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use xvault_connectors::conformance::{self, SourceBench};
use xvault_connectors::source::{Hooked, Source};
use xvault_connectors::ssh::{HostKeyPolicy, SshOptions};
use xvault_connectors::tool::ToolOptions;
use xvault_connectors::{Control, Error, Network, Probe, PullSummary, WordpressSource};
use xvault_core::monitor::Recorder;
use xvault_core::snapshot::Evidence;
use xvault_core::source::{Hook, Hooks, SshMode};
use xvault_core::{EntryKind, WarningCode, WordpressSettings};
use xvault_testkit::tools::{command, find, run};
use xvault_testkit::{FaultProxy, Mariadb, MtimeMatch, Sshd, TreeOptions, Wordpress, assert_same_tree};

use crate::db_support::{body, mariadb};
use crate::ssh_support::{Kept, key};

/// A site in the home of an account, and settings that lead there.
pub(crate) struct Site {
    pub(crate) sshd: Sshd,
    pub(crate) wordpress: Wordpress,
    pub(crate) settings: WordpressSettings,
    pub(crate) network: Network,
}

impl Site {
    pub(crate) fn new(sshd: Sshd) -> Self {
        Self::of(sshd, Wordpress::install)
    }

    fn of(sshd: Sshd, install: impl FnOnce(&Mariadb, &Path) -> Wordpress) -> Self {
        let root = sshd.home.join("www/html");
        fs::create_dir(sshd.home.join("www")).unwrap();
        let wordpress = install(Mariadb::shared(), &root);
        wordpress.give_to(sshd.ids());
        let root = root.to_str().unwrap().to_owned();
        let mut settings = WordpressSettings::new("127.0.0.1", &sshd.user, vec![root]);
        settings.port = sshd.port;
        settings.host_key = Some(sshd.host_key.fingerprint.clone());
        Self { sshd, wordpress, settings, network: Network::default() }
    }

    /// Leaves out what is WordPress's own: most of the files.
    pub(crate) fn small(mut self) -> Self {
        self.settings.excludes =
            vec!["/wp-admin/".into(), "/wp-includes/".into(), "/wp-content/themes/".into()];
        self
    }

    pub(crate) fn source(&self) -> WordpressSource {
        self.source_of(&self.settings)
    }

    fn source_of(&self, settings: &WordpressSettings) -> WordpressSource {
        let mut options = SshOptions::new(&settings.files(), key(&self.sshd.key_path));
        options.host_key = HostKeyPolicy::AcceptNew;
        options.network = self.network.clone();
        // Debian's packages lag behind at times.
        let tools = ToolOptions { allow_outdated: true, ..ToolOptions::default() };
        WordpressSource::new(settings, options, tools).unwrap()
    }

    async fn try_pull(&self) -> (Kept, Result<PullSummary, Error>, Arc<Recorder>) {
        let (mut kept, seen) = (Kept::default(), Arc::new(Recorder::default()));
        let (control, mut source) = (Control::default().with_progress(seen.clone()), self.source());
        let pulled = tokio::time::timeout(Duration::from_secs(120), source.pull(&mut kept, &control)).await;
        (kept, pulled.expect("the pull hangs"), seen)
    }

    pub(crate) async fn pull(&self) -> (Kept, PullSummary) {
        let (kept, pulled, _) = self.try_pull().await;
        let summary = pulled.unwrap();
        let counted =
            |is: fn(&EntryKind) -> bool| kept.entries.iter().filter(|(e, _)| is(&e.kind)).count() as u64;
        let files = counted(|kind| matches!(kind, EntryKind::File { .. } | EntryKind::Stream));
        assert_eq!((summary.content.files, summary.content.warnings), (files, kept.warnings.len() as u64));
        assert_eq!(summary.content.directories, counted(|kind| *kind == EntryKind::Directory));
        (kept, summary)
    }

    pub(crate) async fn error(&self) -> Error {
        self.try_pull().await.1.unwrap_err()
    }

    pub(crate) async fn probe(&self) -> Probe {
        self.source().probe().await.unwrap()
    }

    fn dump(&self) -> String {
        format!("database/{}.sql", self.wordpress.database)
    }

    /// Where a file of the site is in a snapshot.
    fn place(&self, name: &str) -> String {
        format!("files{}/{name}", self.wordpress.root.display())
    }

    pub(crate) fn configure(&self, from: &str, to: &str) {
        let config = self.wordpress.config("");
        assert!(config.contains(from), "{config}");
        self.wordpress.write_config(&config.replace(from, to));
    }

    fn write(&self, name: &str) -> PathBuf {
        let path = self.wordpress.root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
        path
    }
}

fn paths(kept: &Kept) -> Vec<String> {
    kept.entries.iter().map(|(entry, _)| entry.path.to_string()).collect()
}

pub(crate) fn has(kept: &Kept, path: &str) -> bool {
    kept.entries.iter().any(|(entry, _)| entry.path.as_bytes() == path.as_bytes())
}

const TRASH: [&str; 3] =
    ["wp-content/cache/page.html", "wp-content/upgrade/core/x.zip", "wp-content/updraft/backup_2026.zip"];

#[tokio::test]
async fn a_site_is_one_snapshot_with_its_tools_there_or_here() {
    let mut site = Site::new(Sshd::builder().start());
    TRASH.iter().for_each(|name| drop(site.write(name)));
    let upload = site.write("wp-content/uploads/one.jpg");
    fs::hard_link(&upload, upload.with_file_name("two.jpg")).unwrap();
    let (server, name) = (Mariadb::shared(), &site.wordpress.database);
    // What the site connects with holds less than what lies in its tables; old ones hold other text than they say.
    site.configure("'DB_CHARSET', 'utf8mb4'", "'DB_CHARSET', 'latin1'");
    let _ = server
        .sql(name, "CREATE TABLE wp_old (a TEXT) CHARACTER SET latin1; INSERT wp_old VALUES (0xC3A9FF81)");
    let (expected, fresh) = (server.checksums(name), Mariadb::start());
    let mut seen = Vec::new();
    for (mode, place) in [(None, "remote"), (Some(SshMode::Tunnel), "tunnel")] {
        site.settings.ssh_mode = mode;
        let (kept, summary) = site.pull().await;
        let Evidence::Site { databases, files } = &summary.evidence else { panic!("{summary:?}") };
        assert!(matches!(databases[..], [Evidence::Dump { dumps: 1, .. }]), "{place}: {databases:?}");
        assert!(
            matches!(**files, Evidence::Tar { exit_status: 0, .. }) && summary.evidence.dumps() == Some(1)
        );
        assert_eq!(kept.warnings, [], "{place}");
        let _ = fresh.sql("", &format!("DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name}"));
        mariadb(&fresh, name, body(&kept, &site.dump()));
        assert_eq!(fresh.checksums(name), expected, "{place}");
        seen.push(paths(&kept));
        assert_eq!(seen[0][..3], ["database".to_owned(), site.dump(), "files".to_owned()]);
        assert!(TRASH.iter().all(|name| !has(&kept, &site.place(name))), "{place}");
        let (out, root) = (tempfile::tempdir().unwrap(), &site.wordpress.root);
        kept.unpack(out.path());
        for trash in ["wp-content/cache", "wp-content/upgrade", "wp-content/updraft"] {
            fs::create_dir_all(out.path().join(site.place(trash))).unwrap();
        }
        let copied = out.path().join(site.place(""));
        assert_eq!(
            fs::read(copied.join("wp-config.php")).unwrap(),
            fs::read(root.join("wp-config.php")).unwrap()
        );
        let uploads = |root: &Path| root.join("wp-content/uploads");
        let options =
            TreeOptions { owner: true, mtime: MtimeMatch::Exact, hard_links: true, ..TreeOptions::default() };
        assert_same_tree(&uploads(root), &uploads(&copied), &options);
        assert_same_tree(&root.join("wp-includes"), &copied.join("wp-includes"), &options);
    }
    assert_eq!(seen[0], seen[1], "the order is the same");
}

#[tokio::test]
async fn what_is_left_out_by_default_can_be_kept() {
    let mut site = Site::new(Sshd::builder().start()).small();
    TRASH.iter().for_each(|name| drop(site.write(name)));
    site.settings.dump_database = false;
    site.settings.excludes.push("!/wp-content/updraft/".into());
    let (kept, summary) = site.pull().await;
    assert_eq!(TRASH.map(|name| has(&kept, &site.place(name))), [false, false, true]);
    assert!(!has(&kept, "database") && summary.evidence.dumps().is_none(), "{summary:?}");
    site.settings.default_excludes = false;
    let (kept, _) = site.pull().await;
    assert_eq!(TRASH.map(|name| has(&kept, &site.place(name))), [true; 3]);
}

#[tokio::test]
async fn files_alone_need_no_database_that_is_known() {
    let mut site = Site::new(Sshd::builder().start()).small();
    let define = format!("define( 'DB_NAME', '{}' );", site.wordpress.database);
    site.configure(&define, "define('DB_NAME', env('X'));");
    let error = site.error().await.to_string();
    assert!(error.contains("DB_NAME is not known") && error.contains("(strings, constants,"), "{error}");
    site.settings.dump_database = false;
    let (kept, summary) = site.pull().await;
    assert!(has(&kept, &site.place("wp-config.php")) && summary.evidence.dumps().is_none(), "{summary:?}");
    let probe = site.probe().await;
    assert!(probe.paths.iter().all(|path| path.error.is_none()), "{probe:?}");
    assert!(probe.notes[0].contains("where its database is, is not known: line 3"), "{probe:?}");
    // What can't be followed at all may hide where content lies.
    site.wordpress.write_config("<?php\ndefine('DB_NAME', 'x'");
    assert!(site.error().await.to_string().contains("line "));
}

#[tokio::test]
async fn a_network_is_one_database_and_its_uploads_are_files() {
    let site = Site::of(Sshd::builder().start(), Wordpress::install_network).small();
    let (kept, _) = site.pull().await;
    let dump = String::from_utf8_lossy(body(&kept, &site.dump()));
    assert!(dump.contains("CREATE TABLE `wp_2_posts`") && dump.contains("Only on the second"));
    let second = |path: &String| path.contains("/uploads/sites/2/") && path.ends_with("second.txt");
    assert!(paths(&kept).iter().any(second), "{:?}", paths(&kept));
    let probe = site.probe().await;
    assert!(probe.notes[0].contains("a network of sites"), "{probe:?}");
}

#[tokio::test]
async fn what_lies_elsewhere_belongs_to_the_site_and_is_named_once() {
    let site = Site::new(Sshd::builder().start()).small();
    let root = &site.wordpress.root;
    let (above, data) = (root.parent().unwrap().to_owned(), site.sshd.home.join("data/uploads"));
    fs::rename(root.join("wp-config.php"), above.join("wp-config.php")).unwrap();
    fs::create_dir_all(data.parent().unwrap()).unwrap();
    fs::rename(root.join("wp-content/uploads"), &data).unwrap();
    symlink(&data, root.join("wp-content/uploads")).unwrap();
    let (kept, _) = site.pull().await;
    assert!(has(&kept, &format!("files{}/wp-config.php", above.display())), "{:?}", paths(&kept));
    assert!(has(&kept, &site.place("wp-content/uploads")));
    let moved = format!("files{}/", data.display());
    assert!(paths(&kept).iter().any(|path| path.starts_with(&moved) && path.ends_with("file-3.txt")));
    let mut sorted = paths(&kept);
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), kept.entries.len(), "a path occurs twice");
    let probe = site.probe().await;
    assert!(
        probe.notes.iter().any(|note| note.contains("data/uploads") && note.contains("outside")),
        "{probe:?}"
    );
    // What lies in something that is named already is not named again.
    fs::rename(root.join("wp-content"), above.join("content")).unwrap();
    symlink(above.join("content"), root.join("wp-content")).unwrap();
    let outside = site.probe().await.notes.into_iter().filter(|note| note.contains("outside")).count();
    assert_eq!(outside, 3, "the configuration, the content, and the uploads that lie elsewhere again");
    // A site above has a configuration of its own, which is none of this one's.
    fs::write(above.join("wp-settings.php"), "<?php").unwrap();
    let error = site.error().await;
    assert!(matches!(&error, Error::NotFound(what) if what.contains("wp-config.php")), "{error}");
    let probe = site.probe().await;
    assert!(probe.paths[0].error.as_ref().unwrap().contains("wp-config.php"), "{probe:?}");
}

#[tokio::test]
async fn two_sites_of_one_database_are_dumped_once() {
    let mut site = Site::new(Sshd::builder().start()).small();
    let second = site.sshd.home.join("www/second");
    let _ = run(command("cp", ["-a"]).arg(&site.wordpress.root).arg(&second));
    site.settings.paths.push("www/second".to_owned());
    let (kept, summary) = site.pull().await;
    assert_eq!(summary.evidence.dumps(), Some(1));
    assert!(has(&kept, &format!("files{}/wp-config.php", second.display())));
    // The same name on another server would be the same entry.
    let other = site.wordpress.config("").replace("127.0.0.1:", "localhost:");
    fs::write(second.join("wp-config.php"), other).unwrap();
    site.settings.ssh_mode = Some(SshMode::Tunnel);
    let error = site.error().await;
    assert!(matches!(&error, Error::Settings(error) if error.field == "paths"), "{error}");
}

#[tokio::test]
async fn each_trouble_with_configuration_and_database_has_its_sentence() {
    let mut site = Site::new(Sshd::builder().start()).small();
    let (password, port) = (site.wordpress.password.clone(), site.wordpress.database_port);
    let written = password.replace('\\', "\\\\").replace('\'', "\\'");
    for (mode, kind) in [(SshMode::Remote, "remote"), (SshMode::Tunnel, "tunnel")] {
        site.settings.ssh_mode = Some(mode);
        site.configure(&written, "wrong");
        let error = site.error().await;
        assert!(matches!(&error, Error::Auth { .. }), "{kind}: {error}");
        site.configure(&format!("'DB_NAME', '{}'", site.wordpress.database), "'DB_NAME', 'gone'");
        let error = site.error().await;
        assert!(matches!(&error, Error::NotFound(what) if what.contains("gone")), "{kind}: {error}");
        let nobody = xvault_testkit::unused_port();
        site.configure(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{nobody}"));
        let error = site.error().await;
        assert!(matches!(&error, Error::Connection { .. } | Error::Remote { .. }), "{kind}: {error}");
        let probe = site.probe().await;
        assert!(probe.paths[0].error.is_none() && probe.paths[1].error.is_some(), "{kind}: {probe:?}");
    }
    site.wordpress
        .write_config("<?php\ndefine('DB_NAME', 'x');\ndefine('DB_USER', 'u'\ndefine('DB_HOST', 'h');");
    let error = site.error().await;
    assert!(
        matches!(&error, Error::SiteConfig { file, reason }
        if file.ends_with("/wp-config.php") && reason.starts_with("line 4: `,` is missing")),
        "{error}"
    );
    let probe = site.probe().await;
    assert!(probe.paths[0].error.as_ref().unwrap().contains("line 4"), "{probe:?}");
    site.wordpress.write_config(&"#".repeat(300 << 10));
    assert!(site.error().await.to_string().contains("longer than"));
    site.configure(&written, "line\nbreak");
    assert!(site.error().await.to_string().contains("DB_PASSWORD has a line break"));
    let config = site.wordpress.root.join("wp-config.php");
    site.configure("wp_", "wp_");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o000)).unwrap();
    std::os::unix::fs::chown(&config, Some(0), Some(0)).unwrap();
    let error = site.error().await;
    assert!(error.to_string().contains("wp-config.php` can't be read"), "{error}");
    fs::remove_file(&config).unwrap();
    assert!(matches!(site.error().await, Error::NotFound(_)));
    site.settings.paths = vec!["/nowhere".into()];
    assert!(matches!(site.error().await, Error::NotFound(_)));
    site.settings.paths = vec!["/etc/passwd".into()];
    assert!(matches!(site.error().await, Error::Settings(_)));
}

/// An empty database that the site's user may read, too.
pub(crate) fn fallback(site: &Site) -> String {
    let (name, user) = (Mariadb::shared().create_database(), &site.wordpress.user);
    let _ = Mariadb::shared().sql("", &format!("GRANT ALL ON {name}.* TO {user}@'%'"));
    name
}

#[tokio::test]
async fn a_database_without_the_tables_of_the_site_is_not_taken_for_its_own() {
    let mut site = Site::new(Sshd::builder().start()).small();
    let (own, fallback) = (site.wordpress.database.clone(), fallback(&site));
    let local = format!("<?php define('DB_NAME', '{own}');");
    fs::write(site.wordpress.root.join("local-config.php"), local).unwrap();
    let define = format!("define( 'DB_NAME', '{own}' );");
    let included = format!("require __DIR__ . '/local-config.php'; define('DB_NAME', '{fallback}');");
    let assumed = format!("define('DB_NAME', getenv('NAME') ?: '{fallback}');");
    let variable = format!("$name = getenv('NAME') ?: '{fallback}'; define('DB_NAME', $name);");
    let all = [(included, "another file is included"), (assumed, "`NAME`"), (variable, "`NAME`")];
    for (mode, (text, why)) in all.iter().enumerate() {
        site.settings.ssh_mode = [Some(SshMode::Remote), Some(SshMode::Tunnel), None][mode];
        site.configure(&define, text);
        let (kept, pulled, _) = site.try_pull().await;
        let error = pulled.unwrap_err();
        let Error::SiteConfig { file, reason } = &error else { panic!("{why}: {error:?}") };
        assert!(file.ends_with("/wp-config.php") && paths(&kept).iter().all(|path| !path.ends_with(".sql")));
        for told in [&format!("`{fallback}`"), "`wp_options`", "line 3: ", why] {
            assert!(reason.contains(told), "{told}: {reason}");
        }
        assert!(!error.to_string().contains("constants"), "nothing is wrong with what PHP says: {error}");
        let probe = site.probe().await;
        assert!(probe.paths[1].error.as_ref().unwrap().contains("`wp_options`"), "{probe:?}");
    }
    // The prefix of another site.
    site.configure("'wp_'", "'other_'");
    let error = site.error().await.to_string();
    assert!(error.contains("`other_options`") && error.contains(&own) && !error.contains("line"), "{error}");
}

#[tokio::test]
async fn a_database_that_may_be_another_copy_of_the_site_is_dumped_with_a_warning() {
    let site = Site::new(Sshd::builder().start()).small();
    let (own, fallback) = (site.wordpress.database.clone(), fallback(&site));
    let copy = format!("CREATE TABLE {fallback}.wp_options AS SELECT * FROM {own}.wp_options");
    let _ = Mariadb::shared().sql("", &copy);
    fs::write(site.wordpress.root.join("local.php"), "<?php").unwrap();
    let define = format!("define( 'DB_NAME', '{own}' );");
    let fallback_define = format!("define('DB_NAME', '{fallback}');");
    for (text, why) in [
        (format!("include 'local.php'; {fallback_define}"), "another file is included"),
        (format!("define('DB_NAME', getenv('NAME') ?: '{fallback}');"), "`NAME`"),
    ] {
        site.configure(&define, &text);
        let (kept, summary) = site.pull().await;
        let expected = (WarningCode::Other, PathBuf::from(format!("/database/{fallback}.sql")));
        assert_eq!((kept.codes(), summary.content.warnings), (vec![expected], 1), "{why}");
        let message = &kept.warnings[0].message;
        assert!(message.contains(why) && message.contains("line 3: "), "{message}");
    }
    // What comes behind the settings of the database changes nothing of them, and neither do other settings.
    site.configure(
        "$table_prefix =",
        "define('WP_CACHE', getenv('CACHE') ?: 0); include 'local.php';\n$table_prefix =",
    );
    assert_eq!(site.pull().await.0.warnings, []);
}

#[tokio::test]
async fn a_table_of_the_site_may_be_a_view_which_holds_no_rows_of_other_databases() {
    let site = Site::new(Sshd::builder().start()).small();
    let (own, other, server) = (&site.wordpress.database, fallback(&site), Mariadb::shared());
    let _ = server.sql(
        own,
        "RENAME TABLE wp_options TO real_options; CREATE VIEW wp_options AS SELECT * FROM real_options",
    );
    let (kept, _) = site.pull().await;
    assert_eq!(kept.warnings, []);
    let dump = String::from_utf8_lossy(body(&kept, &site.dump()));
    assert!(dump.contains("INSERT INTO `real_options`") && dump.contains("VIEW `wp_options`"));
    let away = format!(
        "RENAME TABLE real_options TO {other}.options; CREATE VIEW halfway AS SELECT o.* FROM (SELECT 1) x JOIN {other}.options o; \
         CREATE OR REPLACE VIEW wp_options AS SELECT * FROM halfway"
    );
    let _ = server.sql(own, &away);
    let (kept, _) = site.pull().await;
    assert_eq!(kept.codes(), [(WarningCode::Unreadable, PathBuf::from(format!("/{}", site.dump())))]);
    let told = |text: &str| text.contains("`halfway`") && !text.contains("`wp_options`");
    assert!(told(&kept.warnings[0].message), "{:?}", kept.warnings);
    let probe = site.probe().await;
    assert!(probe.paths[1].error.is_none() && probe.notes.iter().any(|note| told(note)), "{probe:?}");
}

#[tokio::test]
async fn the_tools_of_the_server_run_whatever_the_login_shell_is() {
    for shell in ["tcsh", "fish"] {
        let mut site = Site::new(Sshd::builder().shell(shell).start()).small();
        site.settings.ssh_mode = Some(SshMode::Remote);
        let (kept, summary) = site.pull().await;
        assert!(kept.warnings.is_empty() && has(&kept, &site.dump()), "{shell}: {:?}", kept.warnings);
        let Evidence::Site { files, .. } = summary.evidence else { panic!() };
        assert!(matches!(*files, Evidence::Tar { exit_status: 0, .. }), "{shell}: {files:?}");
    }
}

#[tokio::test]
async fn a_database_elsewhere_is_reached_from_the_server_and_a_socket_by_its_tools() {
    let mut site = Site::new(Sshd::builder().start()).small();
    let port = site.wordpress.database_port;
    // Another address of this machine is another host to those who log in.
    let elsewhere = FaultProxy::start_at(Ipv4Addr::new(127, 0, 0, 77), 0, port);
    for mode in [SshMode::Remote, SshMode::Tunnel] {
        site.settings.ssh_mode = Some(mode);
        site.configure(&format!("127.0.0.1:{port}"), &format!("127.0.0.77:{}", elsewhere.port));
        let (kept, _) = site.pull().await;
        assert!(body(&kept, &site.dump()).ends_with(b"\n"), "{mode:?}");
        // Small answers pass; the dump does not.
        elsewhere.cut_each_after(30_000);
        let (kept, pulled, _) = site.try_pull().await;
        let error = pulled.unwrap_err();
        assert!(matches!(error, Error::Connection { .. } | Error::Tool { .. }), "{mode:?}: {error:?}");
        assert!(kept.open && !has(&kept, "files"), "{mode:?}: the dump was ended");
        elsewhere.heal();
    }
    // What is above every directory of the socket lets nobody but the server in.
    let socket = Mariadb::shared().socket();
    fs::set_permissions(socket.parent().unwrap(), fs::Permissions::from_mode(0o711)).unwrap();
    site.configure(&format!("127.0.0.1:{port}"), &format!("localhost:{}", socket.display()));
    let error = site.error().await;
    assert!(matches!(&error, Error::Tool { reason, .. } if reason.contains("no tunnel leads to")), "{error}");
    site.settings.ssh_mode = None;
    let (kept, _) = site.pull().await;
    assert!(has(&kept, &site.dump()));
}

/// An account whose `PATH` has these tools alone.
fn poor(tools: &[&str]) -> (Sshd, tempfile::TempDir) {
    let bin = tempfile::tempdir().unwrap();
    fs::set_permissions(bin.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for name in tools {
        symlink(find(name).unwrap(), bin.path().join(name)).unwrap();
    }
    (Sshd::builder().config(&format!("SetEnv PATH={}", bin.path().display())).start(), bin)
}

#[tokio::test]
async fn without_the_tools_there_a_tunnel_is_used_and_without_a_shell_sftp() {
    let (sshd, _bin) = poor(&["sh", "tar", "find", "du", "head", "env"]);
    let mut site = Site::new(sshd).small();
    let (kept, _) = site.pull().await;
    assert!(has(&kept, &site.dump()));
    site.settings.ssh_mode = Some(SshMode::Remote);
    let error = site.error().await;
    assert!(
        matches!(&error, Error::Tool { reason, .. } if reason.contains("install mariadb-client")),
        "{error}"
    );
    let site = Site::new(Sshd::builder().config("ForceCommand internal-sftp").start()).small();
    let (kept, summary) = site.pull().await;
    assert!(has(&kept, &site.dump()));
    let Evidence::Site { files, .. } = summary.evidence else { panic!() };
    assert!(matches!(*files, Evidence::Walk { .. }), "{files:?}");
    let probe = site.probe().await;
    assert!(probe.paths.iter().all(|path| path.error.is_none()), "{probe:?}");
}

#[tokio::test]
async fn a_server_that_forbids_tunnels_says_so_and_dumps_with_its_own_tools() {
    let mut site = Site::new(Sshd::builder().config("AllowTcpForwarding no").start()).small();
    site.settings.ssh_mode = Some(SshMode::Tunnel);
    let error = site.error().await;
    assert!(error.to_string().contains("forbids tunnels"), "{error}");
    let probe = site.probe().await;
    assert!(
        probe.paths[1].error.as_ref().is_some_and(|error| error.contains("forbids tunnels")),
        "{probe:?}"
    );
    site.settings.ssh_mode = None;
    let (kept, _) = site.pull().await;
    assert!(has(&kept, &site.dump()));
}

#[tokio::test]
async fn a_server_that_keeps_no_password_says_what_it_lacks() {
    let (sshd, bin) =
        poor(&["sh", "tar", "find", "du", "head", "env", "dd", "rm", "mariadb", "mariadb-dump"]);
    let mut site = Site::new(sshd).small();
    site.settings.ssh_mode = Some(SshMode::Remote);
    let told = |error: &Error| {
        let Error::Tool { reason, .. } = error else { panic!("{error:?}") };
        assert!(reason.contains("`mktemp`") && reason.contains("/dev/shm"), "{reason}");
    };
    told(&site.error().await);
    // One that finds no room.
    let mktemp = bin.path().join("mktemp");
    fs::write(&mktemp, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(&mktemp, fs::Permissions::from_mode(0o755)).unwrap();
    told(&site.error().await);
}

#[tokio::test]
async fn an_upload_that_cannot_be_read_makes_the_snapshot_partial_and_is_told_before() {
    let site = Site::new(Sshd::builder().start()).small();
    let secret = site.write("wp-content/uploads/se'cret \u{1f600}.pdf");
    std::os::unix::fs::chown(&secret, Some(0), Some(0)).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let (kept, summary) = site.pull().await;
    assert_eq!(summary.content.warnings, 1);
    let expected = PathBuf::from(format!("/{}", site.place("wp-content/uploads/se'cret \u{1f600}.pdf")));
    assert_eq!(kept.codes(), [(WarningCode::Unreadable, expected)]);
    let probe = site.probe().await;
    let note = probe.notes.iter().find(|note| note.contains("can't read")).unwrap();
    assert!(note.contains("cret \u{1f600}.pdf") && note.contains("group or ACL"), "{note}");
}

#[tokio::test]
async fn a_probe_tells_what_one_needs_to_know() {
    let site = Site::new(Sshd::builder().start());
    let (started, probe) = (std::time::Instant::now(), site.probe().await);
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(probe.host_key.as_ref(), Some(&site.sshd.host_key.fingerprint));
    let kinds: Vec<_> = probe.paths.iter().map(|path| (path.kind, path.error.as_deref())).collect();
    assert_eq!(kinds, [(Some("directory"), None), (Some("database"), None)], "{probe:?}");
    let notes = probe.notes.join("\n");
    for told in
        ["WordPress 6.", "`wp_…`", &site.wordpress.database, "MariaDB 1", "MiB of files", "of the SSH server"]
    {
        assert!(notes.contains(told), "{told}: {notes}");
    }
    assert!(!notes.contains(&site.wordpress.password));
}

/// What docs/sources/wordpress.md says that is enough.
#[tokio::test]
async fn the_least_account_and_the_least_grants_are_enough() {
    let keys = tempfile::tempdir().unwrap();
    fs::set_permissions(keys.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = keys.path().join("authorized_keys");
    let sshd = Sshd::builder().config(&format!("AuthorizedKeysFile {}", file.display())).start();
    let key = fs::read_to_string(sshd.key_path.with_extension("pub")).unwrap();
    fs::write(&file, format!("restrict,port-forwarding {key}")).unwrap();
    let mut site = Site::new(sshd).small();
    let (_, group) = site.sshd.ids();
    site.wordpress.give_to((0, group));
    let _ = run(command("chmod", ["-R", "u=rwX,g=rX,o="]).arg(&site.wordpress.root));
    let Wordpress { database, user, .. } = &site.wordpress;
    let grants = format!(
        "REVOKE ALL PRIVILEGES, GRANT OPTION FROM {user}@'%'; \
         GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES ON {database}.* TO {user}@'%'"
    );
    let _ = Mariadb::shared().sql("", &grants);
    for mode in [SshMode::Remote, SshMode::Tunnel] {
        site.settings.ssh_mode = Some(mode);
        let (kept, _) = site.pull().await;
        assert!(kept.warnings.is_empty() && has(&kept, &site.dump()), "{mode:?}: {:?}", kept.warnings);
    }
}

#[tokio::test]
async fn a_probe_does_not_wait_for_what_takes_long() {
    let (sshd, bin) = poor(&["sh", "tar", "find", "head"]);
    let du = bin.path().join("du");
    fs::write(&du, "#!/bin/sh\nexec /bin/sleep 60\n").unwrap();
    fs::set_permissions(&du, fs::Permissions::from_mode(0o755)).unwrap();
    let site = Site::new(sshd);
    let (started, probe) = (std::time::Instant::now(), site.probe().await);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert!(probe.notes.iter().any(|note| note.contains("could not be counted in time")), "{probe:?}");
}

#[tokio::test]
async fn a_site_with_commands_around_it_conforms() {
    let site = Site::new(Sshd::builder().start()).small();
    let hooks = Hooks { before: Some(Hook::new("true")), after: Some(Hook::new("true")) };
    let make = |change: &dyn Fn(&mut WordpressSettings)| {
        let mut settings = site.settings.clone();
        change(&mut settings);
        let mut options = SshOptions::new(&settings.files(), key(&site.sshd.key_path));
        options.timeouts.reconnects = 0;
        Hooked::around(Box::new(site.source_of(&settings)), &hooks, Some(&options))
    };
    let bench = SourceBench::new(|| make(&|_| {}))
        .dates_itself()
        .refused(|| make(&|settings| settings.paths = vec!["/no/such/site".into()]))
        .away(|| make(&|settings| settings.port = xvault_testkit::unused_port()));
    conformance::source(&bench).await.unwrap();
}

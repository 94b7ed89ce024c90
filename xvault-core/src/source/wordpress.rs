//! Settings of WordPress.

use serde::{Deserialize, Serialize};

use super::server::yes;
use super::{Hooks, InvalidSettings, SshMode, SshSettings};

/// Settings of [`SourceSettings::Wordpress`](super::SourceSettings::Wordpress): sites of an account of an SSH server. The
/// credential (password or private key) is kept apart; the databases' passwords are read from `wp-config.php`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WordpressSettings {
    /// Name or address of the server.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255, pattern = "^\\S*$"))]
    pub host: String,
    /// TCP port.
    #[serde(default = "SshSettings::default_port")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 65535))]
    pub port: u16,
    /// Account on the server.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255))]
    pub username: String,
    /// The document roots: the directories that `wp-settings.php` and `wp-includes` lie in, or that have WordPress in a directory of its
    /// own; and folders that belong to these sites. Relative ones start at the account's home. At most 4096 bytes each, and 64 KiB with all globs.
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 100))]
    pub paths: Vec<String>,
    /// Whether the credential is a password; otherwise it is a private key.
    #[serde(default)]
    pub use_password: bool,
    /// Globs in gitignore syntax, matched against paths relative to each of `paths`. One that begins with `!` takes back what
    /// is left out by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub excludes: Vec<String>,
    /// Leaves out what WordPress and known plugins make anew, and backups of other programs: caches, upgrade folders, logs.
    #[serde(default = "super::server::yes")]
    pub default_excludes: bool,
    /// Whether the databases are dumped, and not the files alone.
    #[serde(default = "super::server::yes")]
    pub dump_database: bool,
    /// Where the tools run that dump a database: `remote` on the SSH server, `tunnel` where the backup is made. Left out: there
    /// when the server has them, else here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_mode: Option<SshMode>,
    /// The server's key as pinned: `SHA256:` and 43 characters of base64, as `ssh-keygen -l` prints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(pattern = "^SHA256:[A-Za-z0-9+/]{43}$"))]
    pub host_key: Option<String>,
    /// Commands that are run on the server before a backup, and after it.
    #[serde(default, skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
}

impl WordpressSettings {
    /// The most document roots of a source.
    pub const MAX_ROOTS: usize = 100;

    /// What is left out unless somebody says otherwise, relative to a document root.
    pub const DEFAULT_EXCLUDES: [&str; 29] = [
        // Made anew when it is missing.
        "/wp-content/cache/",
        "/wp-content/et-cache/",
        "/wp-content/litespeed/",
        "/wp-content/uploads/cache/",
        "/wp-content/uploads/wp-rocket-cache/",
        "/wp-content/wp-cloudflare-super-page-cache/",
        "/wp-content/wphb-cache/",
        // What an update of WordPress works with.
        "/.maintenance",
        "/wp-content/upgrade/",
        "/wp-content/upgrade-temp-backup/",
        // Backups that other plugins have made, which are many times the size of the site.
        "/wp-content/ai1wm-backups/",
        "/wp-content/backup-db/",
        "/wp-content/backup-migration-*/",
        "/wp-content/backups-dup-lite/",
        "/wp-content/backups-dup-pro/",
        "/wp-content/backupwordpress-*-backups/",
        "/wp-content/updraft/",
        "/wp-content/uploads/backup-guard/",
        "/wp-content/uploads/backupbuddy_backups/",
        "/wp-content/uploads/backupbuddy_temp/",
        "/wp-content/uploads/backwpup/",
        "/wp-content/uploads/backwpup-*-backups/",
        "/wp-content/uploads/jetpack-temp/",
        "/wp-content/uploads/snapshots/",
        "/wp-content/wpvividbackups/",
        "/wp-snapshots/",
        // Logs that grow for ever.
        "/error_log",
        "/wp-content/debug.log",
        "/wp-content/uploads/wc-logs/",
    ];

    /// The account `username` of `host`; everything else as it is when nobody says otherwise.
    pub fn new(host: impl Into<String>, username: impl Into<String>, paths: Vec<String>) -> Self {
        Self {
            host: host.into(),
            port: SshSettings::default_port(),
            username: username.into(),
            paths,
            use_password: false,
            excludes: Vec::new(),
            default_excludes: yes(),
            dump_database: yes(),
            ssh_mode: None,
            host_key: None,
            hooks: Hooks::default(),
        }
    }

    /// The settings of its files, with what is left out by default.
    #[must_use]
    pub fn files(&self) -> SshSettings {
        self.files_in(&[])
    }

    /// As [`Self::files`], where WordPress lies in directories of its own: relative to the document roots, without a `/` at either end.
    #[must_use]
    pub fn files_in(&self, directories: &[String]) -> SshSettings {
        let defaults = if self.default_excludes { &Self::DEFAULT_EXCLUDES[..] } else { &[] };
        let below = directories.iter().map(|directory| format!("/{}", literal(directory)));
        let below: Vec<String> = std::iter::once(String::new()).chain(below).collect();
        let defaults =
            below.iter().flat_map(|place| defaults.iter().map(move |glob| format!("{place}{glob}")));
        SshSettings { excludes: defaults.chain(self.excludes.iter().cloned()).collect(), ..self.account() }
    }

    fn account(&self) -> SshSettings {
        SshSettings {
            host: self.host.clone(),
            port: self.port,
            username: self.username.clone(),
            paths: self.paths.clone(),
            use_password: self.use_password,
            excludes: self.excludes.clone(),
            host_key: self.host_key.clone(),
            hooks: self.hooks.clone(),
        }
    }

    pub(super) fn validate(&self) -> Result<(), InvalidSettings> {
        if self.paths.len() > Self::MAX_ROOTS {
            let reason = format!("at most {} document roots are possible", Self::MAX_ROOTS);
            return Err(InvalidSettings::new("paths", reason));
        }
        self.account().validate()
    }

    /// One line that names the system.
    pub(super) fn address(&self) -> String {
        let paths = self.paths.join("\n");
        format!("wordpress+ssh://{}@{}:{}{paths}", self.username, self.host, self.port)
    }
}

/// A glob that matches this text alone.
fn literal(text: &str) -> String {
    let special = |c: char| matches!(c, '\\' | '*' | '?' | '[' | ']' | '{' | '}' | '!');
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{SourceSettings, SshMode, check_glob};
    use super::*;
    use serde_json::{Value, json};

    fn value() -> Value {
        json!({"type": "wordpress", "config": {"host": "web.example", "username": "www", "paths": ["/var/www/html"]}})
    }

    fn read(value: Value) -> SourceSettings {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_smallest_settings_read_and_come_back() {
        let settings = read(value());
        settings.validate().unwrap();
        let SourceSettings::Wordpress(s) = &settings else { panic!("{settings:?}") };
        assert_eq!(*s, WordpressSettings::new("web.example", "www", vec!["/var/www/html".into()]));
        assert_eq!((s.port, s.default_excludes, s.dump_database, s.ssh_mode), (22, true, true, None));
        assert_eq!(settings.address(), "wordpress+ssh://www@web.example:22/var/www/html");
        let again = serde_json::to_value(&settings).unwrap();
        assert_eq!(read(again), settings);
    }

    #[test]
    fn each_bad_value_names_its_field() {
        let cases = [
            ("host", json!("a b")),
            ("port", json!(0)),
            ("username", json!("")),
            ("paths", json!([])),
            ("paths", json!(["/a/../b"])),
            ("paths", json!(vec!["/a"; 101])),
            ("excludes", json!(["["])),
            ("host_key", json!("MD5:00")),
        ];
        for (field, bad) in cases {
            let mut value = value();
            value["config"][field] = bad.clone();
            assert_eq!(read(value).validate().unwrap_err().field, field, "{bad}");
        }
        for bad in [json!({"ssh_mode": "direct"}), json!({"exlcudes": []})] {
            let mut value = value();
            value["config"].as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
            assert!(serde_json::from_value::<SourceSettings>(value).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_left_out_by_default_can_be_turned_off_and_comes_before_the_users_own() {
        for glob in WordpressSettings::DEFAULT_EXCLUDES {
            check_glob(glob).unwrap();
        }
        let mut settings = WordpressSettings::new("h", "u", vec!["/w".into()]);
        settings.excludes = vec!["!/wp-content/updraft/".into()];
        let files = settings.files();
        assert_eq!(files.excludes.first().map(String::as_str), Some("/wp-content/cache/"));
        assert_eq!(files.excludes.last(), settings.excludes.first());
        let own = settings.files_in(&["wp".into(), "a[1] {b}*".into()]).excludes;
        assert_eq!(own.len(), 3 * WordpressSettings::DEFAULT_EXCLUDES.len() + 1);
        assert!(own.contains(&"/wp/wp-content/cache/".to_owned()), "{own:?}");
        assert!(own.contains(&r"/a\[1\] \{b\}\*/wp-content/cache/".to_owned()), "{own:?}");
        own.iter().for_each(|glob| check_glob(glob).unwrap());
        settings.default_excludes = false;
        assert_eq!(settings.files_in(&["wp".into()]).excludes, settings.excludes);
        settings.ssh_mode = Some(SshMode::Remote);
        assert_eq!(serde_json::to_value(&settings).unwrap()["ssh_mode"], "remote");
    }
}

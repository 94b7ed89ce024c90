//! Commands around a backup, on the server that is backed up.

use serde::{Deserialize, Serialize};

use super::InvalidSettings;
use super::server::invalid;

/// Commands that are run on the SSH server before a source is pulled, and after it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Hooks {
    /// Run before anything is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Hook>,
    /// Run when all was read; also when that, or `before`, failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Hook>,
}

/// A command, and what its failure means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Hook {
    /// What the account's `sh` runs. It is shown to all who may see the source: no place for secrets.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 4096))]
    pub command: String,
    /// How long it may take, in seconds; then it is ended, which is a failure.
    #[serde(default = "Hook::default_timeout")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 3600))]
    pub timeout_seconds: u32,
    /// What a failure means.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// What the failure of a hook means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum OnFailure {
    /// The backup fails: there is no snapshot.
    #[default]
    Fail,
    /// The job's log says so, and the backup goes on.
    Warn,
}

impl Hook {
    /// The longest command, in bytes.
    pub const MAX_COMMAND: usize = 4096;
    /// The longest time, in seconds.
    pub const MAX_TIMEOUT: u32 = 3600;

    /// A command that has a minute, and whose failure fails the backup.
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            timeout_seconds: Self::default_timeout(),
            on_failure: OnFailure::default(),
        }
    }

    /// A minute.
    #[must_use]
    pub fn default_timeout() -> u32 {
        60
    }

    fn validate(&self) -> Result<(), InvalidSettings> {
        let Self { command, timeout_seconds, .. } = self;
        if command.trim().is_empty() || command.len() > Self::MAX_COMMAND || command.contains('\0') {
            return invalid("hooks", "a `command` of 1 to 4096 bytes without NUL is needed");
        }
        if !(1..=Self::MAX_TIMEOUT).contains(timeout_seconds) {
            return invalid("hooks", "`timeout_seconds` must be between 1 and 3600");
        }
        Ok(())
    }
}

impl Hooks {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.before.is_none() && self.after.is_none()
    }

    /// Checks both; `has_server`: whether there is an SSH server to run them on.
    pub(super) fn validate(&self, has_server: bool) -> Result<(), InvalidSettings> {
        if !self.is_empty() && !has_server {
            return invalid("hooks", "they are run on the SSH server, and there is none without `use_ssh`");
        }
        self.before.iter().chain(&self.after).try_for_each(Hook::validate)
    }
}

#[cfg(test)]
mod tests {
    use super::super::SourceSettings;
    use super::*;
    use serde_json::{Value, json};

    fn with(kind: &str, hooks: &Value, more: &Value) -> SourceSettings {
        let mut config = json!({"host": "h", "username": "u", "hooks": hooks});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(json!({"type": kind, "config": config})).unwrap()
    }

    fn files() -> Value {
        json!({"paths": ["/srv"]})
    }

    #[test]
    fn every_type_with_an_ssh_server_has_hooks_and_they_come_back() {
        let hooks = json!({"before": {"command": "sync"}, "after": {"command": "true", "on_failure": "warn", "timeout_seconds": 5}});
        let through = json!({"use_ssh": true, "ssh_host": "s", "ssh_username": "w"});
        let all = [
            ("ssh", files()),
            ("sftp", files()),
            ("wordpress", files()),
            ("mysql", through.clone()),
            ("postgres", through),
        ];
        for (kind, more) in all {
            let settings = with(kind, &hooks, &more);
            settings.validate().unwrap();
            let read = settings.hooks().unwrap();
            let before = read.before.as_ref().unwrap();
            assert_eq!((before.timeout_seconds, before.on_failure), (60, OnFailure::Fail), "{kind}");
            assert_eq!(read.after.as_ref().unwrap().on_failure, OnFailure::Warn, "{kind}");
            let again = serde_json::to_value(&settings).unwrap();
            assert_eq!(serde_json::from_value::<SourceSettings>(again).unwrap(), settings);
        }
        for (kind, more) in [("mysql", json!({})), ("postgres", json!({}))] {
            assert_eq!(with(kind, &hooks, &more).validate().unwrap_err().field, "hooks", "{kind}");
        }
    }

    #[test]
    fn each_bad_hook_is_refused() {
        let long = "x".repeat(4097);
        for bad in [
            json!({"command": ""}),
            json!({"command": " \n"}),
            json!({"command": "a\u{0}b"}),
            json!({"command": long}),
            json!({"command": "x", "timeout_seconds": 0}),
            json!({"command": "x", "timeout_seconds": 3601}),
        ] {
            for place in ["before", "after"] {
                let settings = with("ssh", &json!({ place: bad }), &files());
                assert_eq!(settings.validate().unwrap_err().field, "hooks", "{bad}");
            }
        }
        assert!(with("ssh", &json!({}), &files()).hooks().is_none());
    }
}

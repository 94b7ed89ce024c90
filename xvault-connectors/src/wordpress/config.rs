//! `wp-config.php`: the database, and the prefix of its tables.

use std::fmt;

use xvault_core::secret::SecretString;

use super::DbHost;
use super::php::{self, State, Surroundings, Value, Why};

/// No `wp-config.php` is longer, in bytes.
pub const MAX_CONFIG_LEN: usize = 256 << 10;

/// What hands over to WordPress: nothing behind it is configuration.
const LAST: &[u8] = b"wp-settings.php";

/// What a `wp-config.php` says. `Debug` shows no password.
#[derive(Debug, Clone)]
pub struct WpConfig {
    /// `DB_NAME`.
    pub name: String,
    /// `DB_USER`.
    pub user: String,
    /// `DB_PASSWORD`.
    pub password: SecretString,
    /// `DB_HOST`.
    pub host: DbHost,
    /// `$table_prefix`.
    pub table_prefix: String,
    /// Whether it is a network of sites, where that can be known.
    pub multisite: Option<bool>,
    /// What was taken for granted, a sentence each.
    pub notes: Vec<String>,
    /// Why the site's database may be another one than these say: the line, and what it is that was not followed.
    pub doubt: Option<String>,
}

/// Why the database can't be read out of a `wp-config.php`. Holds nothing of the file's strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// The line at fault; 0 where something is missing.
    pub line: u32,
    /// One sentence, without the line.
    pub reason: String,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.reason),
            line => write!(f, "line {line}: {}", self.reason),
        }
    }
}

impl std::error::Error for ConfigFault {}

impl From<Why> for ConfigFault {
    fn from(why: Why) -> Self {
        Self { line: why.line, reason: why.what.to_string() }
    }
}

impl ConfigFault {
    fn of(name: &str, why: &Why) -> Self {
        Self {
            line: why.line,
            reason: format!("the value of {name} is not known from the file: {}", why.what),
        }
    }

    fn whole(reason: String) -> Self {
        Self { line: 0, reason }
    }
}

impl WpConfig {
    /// Reads the file `source`, which lies at `path`, of the site whose WordPress lies in the directory `core`; both absolute.
    ///
    /// # Errors
    /// Names the line and the construct that can't be followed, or what is missing.
    pub fn read(source: &[u8], path: &[u8], core: &[u8]) -> Result<Self, ConfigFault> {
        Settings(&follow(source, path, Some(&abspath(core)), None)?).read()
    }
}

/// `ABSPATH` of a WordPress in `core`.
pub(super) fn abspath(core: &[u8]) -> Vec<u8> {
    [core.strip_suffix(b"/").unwrap_or(core), b"/"].concat()
}

/// What is known at the end of a file. With `document_root`, what PHP has for it is guessed to be that.
pub(super) fn follow(
    source: &[u8],
    path: &[u8],
    abspath: Option<&[u8]>,
    document_root: Option<&[u8]>,
) -> Result<State, ConfigFault> {
    if source.len() > MAX_CONFIG_LEN {
        return Err(ConfigFault::whole(format!("it is longer than {MAX_CONFIG_LEN} bytes")));
    }
    let constants: Vec<_> = abspath.map(|path| (&b"ABSPATH"[..], path)).into_iter().collect();
    Ok(php::follow(source, Surroundings { path, constants: &constants, document_root }, LAST)?)
}

/// The state at the end of the file.
struct Settings<'a>(&'a State);

impl Settings<'_> {
    fn read(&self) -> Result<WpConfig, ConfigFault> {
        let host = self.required("DB_HOST")?;
        let host = DbHost::parse(&host)
            .ok_or_else(|| ConfigFault::whole("DB_HOST is none that WordPress understands".into()))?;
        Ok(WpConfig {
            name: self.required("DB_NAME")?,
            user: self.required("DB_USER")?,
            password: self.required("DB_PASSWORD")?.into(),
            host,
            table_prefix: self.table_prefix()?,
            multisite: self.multisite(),
            notes: self.notes(),
            doubt: self.doubt(),
        })
    }

    fn required(&self, name: &str) -> Result<String, ConfigFault> {
        let Some(constant) = self.0.constant(name) else {
            return Err(self.missing(&format!("{name} is not set")));
        };
        text(name, &constant.value)
    }

    fn doubt(&self) -> Option<String> {
        let mut which =
            ["DB_NAME", "DB_HOST"].iter().filter_map(|name| self.0.constant(name)?.doubt.as_ref());
        which.next().map(Why::to_string)
    }

    fn missing(&self, what: &str) -> ConfigFault {
        match &self.0.included {
            None => ConfigFault::whole(format!("{what} in it")),
            Some(why) => ConfigFault { line: why.line, reason: format!("{what} in it, and {}", why.what) },
        }
    }

    fn table_prefix(&self) -> Result<String, ConfigFault> {
        match self.0.variable("table_prefix") {
            Some(value) => text("$table_prefix", value),
            None => Err(self.missing("$table_prefix is not set")),
        }
    }

    fn optional(&self, name: &str) -> Option<Value> {
        self.0.constant(name).map(|constant| constant.value.clone())
    }

    fn multisite(&self) -> Option<bool> {
        let truths = ["MULTISITE", "SUBDOMAIN_INSTALL", "VHOST", "SUNRISE"].map(|name| self.optional(name));
        match &truths {
            [Some(value), ..] => value.truth().ok(),
            // Any of these makes it one.
            [None, rest @ ..] => Some(rest.iter().any(Option::is_some)),
        }
    }

    fn notes(&self) -> Vec<String> {
        let told = |why: &Why, what: &str| format!("wp-config.php, {why}: {what}");
        let included =
            self.0.included.iter().map(|why| told(why, "what it may set before this one does is not seen"));
        let assumed =
            self.0.assumed.iter().map(|why| told(why, "what the file has for it otherwise is used"));
        included.chain(assumed).collect()
    }
}

fn text(name: &str, value: &Value) -> Result<String, ConfigFault> {
    let text = value.to_text().map_err(|why| ConfigFault::of(name, &why))?;
    let unfit = |reason: &str| ConfigFault::whole(format!("{name} {reason}"));
    let text = std::str::from_utf8(&text).map_err(|_| unfit("is not UTF-8"))?;
    if name != "DB_PASSWORD" && text.chars().any(char::is_control) {
        return Err(unfit("has control characters in it"));
    }
    Ok(text.to_owned())
}

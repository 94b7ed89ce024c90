//! What the programs of hub and worker share: secrets from the environment, refusal of misspelt settings, logs.
//!
//! Behind the feature `service`, so that users of the library alone don't pay for it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::str::FromStr;

use crate::secret::{self, InvalidSecret, SecretString};

/// The longest file that a secret is read from.
const MAX_FILE: u64 = 64 << 10;

/// A setting that stops the program. The text names the setting and never holds its value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// A needed one is absent.
    #[error("{name} is not set: {help} (or set {name}_FILE to a file that holds it)")]
    Missing {
        /// The environment variable.
        name: &'static str,
        /// What to set it to.
        help: &'static str,
    },
    /// Both forms are there, and they may differ.
    #[error("{name} and {name}_FILE are both set: keep one of them")]
    Twice {
        /// The environment variable.
        name: &'static str,
    },
    /// The file can't be read.
    #[error("{name}_FILE: read {file}")]
    File {
        /// The environment variable.
        name: &'static str,
        /// The path it gives.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is empty, or no text.
    #[error("{name}: {source}")]
    Secret {
        /// The environment variable.
        name: &'static str,
        /// Which of the two.
        source: InvalidSecret,
    },
    /// It can't be used.
    #[error("{name}: {reason}")]
    Unusable {
        /// The environment variable.
        name: &'static str,
        /// What it should be.
        reason: &'static str,
    },
    /// No setting has this name.
    #[error("{name} is no setting of this program{hint}")]
    Unknown {
        /// The environment variable.
        name: String,
        /// `; did you mean HUB_LISTEN_ADDR?`
        hint: String,
    },
}

/// Why a `REDIS_URL` that the client does not take is refused. It is not repeated: it may hold a password.
#[must_use]
pub fn refused_redis_url(url: &str) -> SettingError {
    let with_tls = ["rediss://", "valkeys://"].iter().any(|scheme| url.starts_with(scheme));
    let reason = if with_tls {
        "Redis over TLS (rediss://) is not supported; keep Redis in a private network, or put a tunnel that speaks TLS (stunnel) \
         before it, and give the tunnel's redis:// address"
    } else {
        "it is no address of a Redis server: redis://:password@host:6379/0 is, with what is special in the password written as %XX"
    };
    SettingError::Unusable { name: "REDIS_URL", reason }
}

/// The environment variables of a program, as a value.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// This process's.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// The secret in variable `name`, or in the file that `name` with `_FILE` added names. Empty ones count as absent.
    ///
    /// Secrets are no arguments: everybody on the machine sees those.
    ///
    /// # Errors
    /// When both are set, the file can't be read or is longer than 64 KiB, or the secret is empty or no text.
    pub fn secret(&self, name: &'static str) -> Result<Option<SecretString>, SettingError> {
        match (self.get(name), self.get(&format!("{name}_FILE"))) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(SettingError::Twice { name }),
            (Some(value), None) => text(name, value.as_encoded_bytes().to_vec()).map(Some),
            (None, Some(file)) => text(name, read(name, Path::new(file))?).map(Some),
        }
    }

    /// As [`Environment::secret`], and it must be there; `help` says what to set it to.
    ///
    /// # Errors
    /// As [`Environment::secret`], and when it is absent.
    pub fn needed_secret(
        &self,
        name: &'static str,
        help: &'static str,
    ) -> Result<SecretString, SettingError> {
        self.secret(name)?.ok_or(SettingError::Missing { name, help })
    }

    /// Refuses variables that begin with `prefix` and are neither among `known`, nor the `_FILE` twins of `secrets`: a setting
    /// that is misspelt, or read from nowhere, must not be silently ignored. What Kubernetes tells a container of the services
    /// beside it ([`is_service_link`]) is not ours.
    ///
    /// # Errors
    /// Names the first one.
    pub fn refuse_unknown(&self, prefix: &str, known: &[&str], secrets: &[&str]) -> Result<(), SettingError> {
        for (name, value) in &self.0 {
            let Some(name) = name.to_str().filter(|name| name.starts_with(prefix)) else { continue };
            let is_file = name.strip_suffix("_FILE").is_some_and(|secret| secrets.contains(&secret));
            let is_known = known.contains(&name) || secrets.contains(&name) || is_file;
            if !is_known && !is_service_link(name, value.to_str().unwrap_or_default()) {
                let hint = hint(name, known, secrets);
                return Err(SettingError::Unknown { name: name.escape_debug().to_string(), hint });
            }
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Option<&OsString> {
        self.0.get(OsStr::new(name)).filter(|value| !value.is_empty())
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Environment {
    /// Values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn read(name: &'static str, file: &Path) -> Result<Vec<u8>, SettingError> {
    let mut bytes = Vec::with_capacity(4096);
    let read = File::open(file).and_then(|opened| opened.take(MAX_FILE).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(source) => Err(SettingError::File { name, file: file.display().to_string(), source }),
    }
}

fn text(name: &'static str, bytes: Vec<u8>) -> Result<SecretString, SettingError> {
    secret::from_file_bytes(bytes).map_err(|source| SettingError::Secret { name, source })
}

/// Whether a variable is one that Kubernetes sets in every container for each service, as for a service `hub`:
/// `HUB_SERVICE_HOST`, `HUB_SERVICE_PORT` and `HUB_SERVICE_PORT_HTTP`, and, as Docker's links had them, `HUB_PORT` and
/// `HUB_PORT_8080_TCP` with `…_PROTO`, `…_PORT` and `…_ADDR`.
#[must_use]
pub fn is_service_link(name: &str, value: &str) -> bool {
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if name.ends_with("_SERVICE_HOST") || name.ends_with("_SERVICE_PORT") {
        return true;
    }
    if let Some((_, port_name)) = name.rsplit_once("_SERVICE_PORT_") {
        return is_word(port_name);
    }
    // `8080_TCP` behind the first `_PORT_`, and what may follow it.
    let link = name.split_once("_PORT_").map(|(_, link)| link.splitn(3, '_').collect::<Vec<_>>());
    match link.as_deref() {
        Some([port, protocol, detail @ ..]) => {
            port.parse::<u16>().is_ok()
                && ["TCP", "UDP", "SCTP"].contains(protocol)
                && (detail.is_empty() && is_url
                    || ["PROTO", "PORT", "ADDR"].iter().any(|known| detail == [*known]))
        }
        Some(_) => false,
        None => name.ends_with("_PORT") && is_url,
    }
}

/// The known name that is nearest, if one is near.
fn hint(name: &str, known: &[&str], secrets: &[&str]) -> String {
    if name.strip_suffix("_FILE").is_some_and(|base| known.contains(&base)) {
        return ": only secrets are read from files".to_owned();
    }
    let nearest = known.iter().chain(secrets).min_by_key(|candidate| distance(name, candidate));
    match nearest {
        Some(candidate) if distance(name, candidate) <= 3 => format!("; did you mean {candidate}?"),
        _ => String::new(),
    }
}

/// Levenshtein's distance, by the row method.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, cell) in b.bytes().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(x != y);
            diagonal = *cell;
            left = replaced.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// `1GiB`, `500MiB`, `4096`.
///
/// # Errors
/// One sentence, when it is something else.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u32); 5] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("", 0)];
    let wrong = || format!("`{text}` is no size: write bytes, or a whole number with KiB, MiB, GiB or TiB");
    let found = UNITS.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
    let (number, shift) = found.ok_or_else(wrong)?;
    let number: u64 = number.trim_end().parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// What is shown unless somebody asks for more. apalis tells of every restart that the services tell of themselves.
pub const DEFAULT_LOG_FILTER: &str = "info,apalis=error,apalis_core=error,apalis_redis=error";

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object a line, with the ids of its spans.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("`text` or `json` is needed"),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if *self == Self::Text { "text" } else { "json" })
    }
}

/// Sends logs to standard error: `filter` as in `info,xvault_hub=debug`. Does nothing when a program that embeds
/// us has set up its own.
///
/// # Errors
/// When `filter` is none.
pub fn init_logs(format: LogFormat, filter: &str) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = tracing_subscriber::EnvFilter::builder().parse(filter)?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _already_set = match format {
        LogFormat::Text => logs.with_ansi(false).try_init(),
        LogFormat::Json => {
            logs.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
        }
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["HUB_LISTEN_ADDR", "HUB_LOG"];
    const SECRETS: &[&str] = &["HUB_JWT_SECRET"];

    fn environment(names: &[&str]) -> Environment {
        names.iter().map(|name| (*name, "x")).collect()
    }

    #[test]
    fn each_secret_comes_from_one_place() {
        use crate::secret::ExposeSecret;
        let dir = std::env::current_dir().unwrap();
        let file = dir.join("Cargo.toml").display().to_string();
        let set = |pairs: &[(&str, &str)]| pairs.iter().copied().collect::<Environment>();
        let value = |environment: Environment| {
            environment.secret("S").map(|found| found.map(|secret| secret.expose_secret().to_owned()))
        };
        assert_eq!(value(set(&[("S", "hunter2")])).unwrap().as_deref(), Some("hunter2"));
        assert_eq!(value(set(&[("S", "")])).unwrap(), None);
        assert!(value(set(&[("S_FILE", &file)])).unwrap().unwrap().contains("xvault-core"));
        for (broken, expected) in [
            (set(&[("S", "hunter2"), ("S_FILE", &file)]), "both set"),
            (set(&[("S_FILE", "/nowhere")]), "/nowhere"),
        ] {
            assert!(!format!("{broken:?}").contains("hunter2"));
            let error = value(broken).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        }
        let missing = set(&[]).needed_secret("S", "a word").unwrap_err().to_string();
        assert_eq!(missing, "S is not set: a word (or set S_FILE to a file that holds it)");
    }

    #[test]
    fn a_misspelt_setting_is_named_with_the_one_that_was_meant() {
        for (name, told) in [
            ("HUB_LISTEN_ADR", "; did you mean HUB_LISTEN_ADDR?"),
            ("HUB_JWT_SECRT", "; did you mean HUB_JWT_SECRET?"),
            ("HUB_LOG_FILE", ": only secrets are read from files"),
            ("HUB_SOMETHING_ELSE", ""),
        ] {
            let error = environment(&["PATH", name]).refuse_unknown("HUB_", KNOWN, SECRETS).unwrap_err();
            assert_eq!(error.to_string(), format!("{name} is no setting of this program{told}"));
        }
        let fine =
            environment(&["HUB_JWT_SECRET_FILE", "HUB_JWT_SECRET", "HUB_LISTEN_ADDR", "HUBBLE", "hub_log"]);
        fine.refuse_unknown("HUB_", KNOWN, SECRETS).unwrap();
    }

    /// As `kubectl exec … env` shows them for the services `hub` and `hub-metrics`.
    #[test]
    fn what_kubernetes_sets_is_no_misspelt_setting() {
        let pod: Environment = [
            ("HUB_SERVICE_HOST", "10.96.7.7"),
            ("HUB_SERVICE_PORT", "8080"),
            ("HUB_SERVICE_PORT_HTTP", "8080"),
            ("HUB_PORT", "tcp://10.96.7.7:8080"),
            ("HUB_PORT_8080_TCP", "tcp://10.96.7.7:8080"),
            ("HUB_PORT_8080_TCP_PROTO", "tcp"),
            ("HUB_PORT_8080_TCP_PORT", "8080"),
            ("HUB_PORT_8080_TCP_ADDR", "10.96.7.7"),
            ("HUB_PORT_53_UDP", "udp://10.96.7.7:53"),
            ("HUB_METRICS_SERVICE_HOST", "10.96.7.8"),
            ("HUB_METRICS_PORT_9100_TCP_ADDR", "10.96.7.8"),
        ]
        .into_iter()
        .collect();
        pod.refuse_unknown("HUB_", KNOWN, SECRETS).unwrap();
        for (name, value) in [
            ("HUB_PORT", "8080"),
            ("HUB_LISTEN_PORT", "8080"),
            ("HUB_PORT_8080", "tcp://10.96.7.7:8080"),
            ("HUB_PORT_8080_TCP", "8080"),
            ("HUB_PORT_HTTP_TCP", "tcp://10.96.7.7:8080"),
            ("HUB_PORT_8080_TCP_HOST", "x"),
            ("HUB_PORT_8080_TCP_ADDR_X", "x"),
            ("HUB_SERVICE", "x"),
            ("HUB_SERVICE_PORT_", "x"),
        ] {
            let misspelt: Environment = [(name, value)].into_iter().collect();
            assert!(misspelt.refuse_unknown("HUB_", KNOWN, SECRETS).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn distances_are_levenshteins() {
        for (a, b, expected) in
            [("", "abc", 3), ("kitten", "sitting", 3), ("same", "same", 0), ("ab", "ba", 2)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn formats_keep_their_words() {
        for format in [LogFormat::Text, LogFormat::Json] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert!("xml".parse::<LogFormat>().is_err());
    }

    proptest::proptest! {
        #[test]
        fn sizes_are_read_exactly_or_refused(number in 0u64..u64::MAX, unit in 0usize..5, text in ".{0,8}") {
            let (name, shift) = [("", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)][unit];
            let exact = u128::from(number) << shift;
            proptest::prop_assert_eq!(parse_bytes(&format!("{number}{name}")).ok(), u64::try_from(exact).ok());
            drop(parse_bytes(&text));
        }
    }
}

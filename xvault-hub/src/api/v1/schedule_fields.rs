//! The fields of a schedule, checked, with the place of the fault named.

use serde_json::json;

use crate::api::error::{Error, Result};
use crate::schedule::{Cron, Fault, MAX_INTERVAL, Part, Rule, TimingError, zone};

/// `cron` or `interval_minutes`. None when neither is given.
pub(super) fn rule(cron: Option<&str>, interval_minutes: Option<u32>) -> Result<Option<Rule>> {
    match (cron, interval_minutes) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => {
            Err(Error::invalid_field("interval_minutes", "either this or `cron` is possible, not both"))
        }
        (Some(text), None) => {
            Cron::parse(text).map_err(|fault| unfit(&fault))?;
            Ok(Some(Rule::Cron(text.split_ascii_whitespace().collect::<Vec<_>>().join(" "))))
        }
        (None, Some(minutes)) if (1..=MAX_INTERVAL).contains(&minutes) => Ok(Some(Rule::Minutes(minutes))),
        (None, Some(_)) => Err(Error::invalid_field(
            "interval_minutes",
            format!("1 to {MAX_INTERVAL} minutes (a leap year) are possible"),
        )),
    }
}

/// 422 that names which of the five fields is wrong, and its text.
fn unfit(fault: &Fault) -> Error {
    let part = fault.part.map(Part::name);
    let text = part.map(|_| &fault.text);
    Error::invalid_field("cron", fault.to_string())
        .details(json!({ "field": "cron", "part": part, "text": text }))
}

/// The zone as the database spells it.
pub(super) fn timezone(name: &str) -> Result<String> {
    match zone(name) {
        Some(zone) => Ok(zone.iana_name().unwrap_or(name).to_owned()),
        None => {
            // As long as the sender likes: it is cut.
            let shown = name.chars().take(40).flat_map(char::escape_debug).collect();
            Err(TimingError::Zone(shown).into())
        }
    }
}

impl From<TimingError> for Error {
    fn from(error: TimingError) -> Self {
        match error {
            TimingError::Cron(fault) => unfit(&fault),
            TimingError::Zone(_) => Self::invalid_field("timezone", error.to_string()),
        }
    }
}

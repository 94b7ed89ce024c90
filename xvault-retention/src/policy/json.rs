//! Reads rules from JSON by hand, because serde's own messages name no field and no remedy.

use serde_json::{Map, Value};

use super::{Count, Rules};
use crate::error::PolicyError;
use crate::within::Within;

/// Every field that is known, in the order of the documentation.
pub(crate) const FIELDS: &[&str] = &[
    "keep_all",
    "keep_last_n",
    "keep_hourly",
    "keep_daily",
    "keep_weekly",
    "keep_monthly",
    "keep_yearly",
    "keep_within",
    "keep_tags",
    "min_age_hours",
    "max_age_days",
    "require_verified",
    "may_delete_last",
    "count",
    "mode",
    "keep_within_duration",
];

const A_NUMBER: &str = "a whole number such as 7";
const A_FLAG: &str = "true or false";
const A_WITHIN: &str = "a length of time in quotes, such as \"30d\", \"1y6m\" or \"36h\"";
const A_COUNT: &str = "\"calendar\" or \"existing\"";
const A_MODE: &str = "\"all\", \"latest_n\" or \"within_duration\"; or leave it out";
const A_LIST: &str = "a list of texts such as [\"release\"]";

/// # Errors
/// For what no JSON of rules may hold. Whether the rules make sense is not looked at here, except for `mode`.
pub(super) fn rules(json: &Value) -> Result<Rules, PolicyError> {
    let map = json.as_object().ok_or_else(|| PolicyError::NoObject { found: shown(json) })?;
    if let Some(unknown) = map.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        return Err(PolicyError::UnknownField { field: shorten(unknown) });
    }
    let fields = Fields(map);
    let rules = Rules {
        keep_all: fields.flag("keep_all")?,
        keep_last_n: fields.number("keep_last_n")?,
        keep_hourly: fields.number("keep_hourly")?,
        keep_daily: fields.number("keep_daily")?,
        keep_weekly: fields.number("keep_weekly")?,
        keep_monthly: fields.number("keep_monthly")?,
        keep_yearly: fields.number("keep_yearly")?,
        keep_within: fields.either_within()?,
        keep_tags: fields.list("keep_tags")?,
        min_age_hours: fields.number("min_age_hours")?,
        max_age_days: fields.number("max_age_days")?,
        require_verified: fields.flag("require_verified")?,
        may_delete_last: fields.flag("may_delete_last")?,
        count: fields.count("count")?,
    };
    fields.mode(rules)
}

struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    /// `null` is as good as left out.
    fn get<T>(
        &self,
        field: &'static str,
        expected: &'static str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, PolicyError> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(value) {
                Some(read) => Ok(Some(read)),
                None => Err(PolicyError::InvalidValue { field, found: shown(value), expected }),
            },
        }
    }

    fn number(&self, field: &'static str) -> Result<Option<u64>, PolicyError> {
        self.get(field, A_NUMBER, Value::as_u64)
    }

    fn flag(&self, field: &'static str) -> Result<bool, PolicyError> {
        Ok(self.get(field, A_FLAG, Value::as_bool)?.unwrap_or_default())
    }

    fn list(&self, field: &'static str) -> Result<Vec<String>, PolicyError> {
        let texts =
            |value: &Value| value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect();
        Ok(self.get(field, A_LIST, texts)?.unwrap_or_default())
    }

    fn within(&self, field: &'static str) -> Result<Option<Within>, PolicyError> {
        self.get(field, A_WITHIN, |value| {
            value.as_str()?.parse().ok().filter(|within: &Within| !within.is_zero())
        })
    }

    /// `keep_within` under its own name or under that of the `mode` form.
    fn either_within(&self) -> Result<Option<Within>, PolicyError> {
        match (self.within("keep_within")?, self.within("keep_within_duration")?) {
            (Some(one), Some(other)) if one != other => {
                Err(PolicyError::Twice { field: "keep_within_duration", other: "keep_within" })
            }
            (one, other) => Ok(one.or(other)),
        }
    }

    fn count(&self, field: &'static str) -> Result<Count, PolicyError> {
        let read = |value: &Value| match value.as_str()? {
            "calendar" => Some(Count::Calendar),
            "existing" => Some(Count::Existing),
            _ => None,
        };
        Ok(self.get(field, A_COUNT, read)?.unwrap_or_default())
    }

    /// Turns the `mode` form into plain rules: the mode says which one `keep_` rule there is.
    fn mode(&self, rules: Rules) -> Result<Rules, PolicyError> {
        let mode = self.get("mode", A_MODE, |value| Mode::named(value.as_str()?))?;
        let Some(mode) = mode else { return Ok(rules) };
        let rules = Rules { keep_all: mode == Mode::All, ..rules };
        let given = keep_rules(&rules);
        match given.iter().find(|field| **field != mode.field()) {
            Some(field) => Err(PolicyError::NotOfMode { field, mode: mode.name() }),
            None if given.is_empty() => {
                Err(PolicyError::ModeNeeds { field: mode.parameter(), mode: mode.name() })
            }
            None => Ok(rules),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    All,
    LatestN,
    WithinDuration,
}

impl Mode {
    fn named(name: &str) -> Option<Self> {
        [Self::All, Self::LatestN, Self::WithinDuration].into_iter().find(|mode| mode.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::LatestN => "latest_n",
            Self::WithinDuration => "within_duration",
        }
    }

    /// The rule it stands for.
    fn field(self) -> &'static str {
        match self {
            Self::All => "keep_all",
            Self::LatestN => "keep_last_n",
            Self::WithinDuration => "keep_within",
        }
    }

    /// The field that carries its number.
    fn parameter(self) -> &'static str {
        match self {
            Self::WithinDuration => "keep_within_duration",
            other => other.field(),
        }
    }
}

/// The names of the `keep_` rules that are set.
fn keep_rules(rules: &Rules) -> Vec<&'static str> {
    let set = |number: Option<u64>| number.is_some_and(|n| n > 0);
    let all = [
        ("keep_all", rules.keep_all),
        ("keep_last_n", set(rules.keep_last_n)),
        ("keep_hourly", set(rules.keep_hourly)),
        ("keep_daily", set(rules.keep_daily)),
        ("keep_weekly", set(rules.keep_weekly)),
        ("keep_monthly", set(rules.keep_monthly)),
        ("keep_yearly", set(rules.keep_yearly)),
        ("keep_within", rules.keep_within.is_some()),
        ("keep_tags", !rules.keep_tags.is_empty()),
    ];
    all.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
}

/// Foreign text, short and without control characters.
fn shorten(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => format!("\"{}\"", shorten(text)),
        other => other.to_string(),
    }
}

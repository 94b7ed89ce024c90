//! The pages of `docs/sources` name every setting of their type, and no other.

use std::collections::BTreeSet;

use super::SourceSettings;

/// The settings of a type, as its struct knows them: what a misspelt one is answered with.
fn of_the_struct(kind: &str) -> BTreeSet<String> {
    let value = serde_json::json!({"type": kind, "config": {"no_such_setting": 1}});
    let error = serde_json::from_value::<SourceSettings>(value).unwrap_err().to_string();
    let (_, names) = error.split_once("expected").unwrap_or_else(|| panic!("{error}"));
    ticked(names)
}

/// What stands between backticks.
fn ticked(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The settings of a type, as the table of its page has them in its first column.
fn of_the_page(kind: &str) -> BTreeSet<String> {
    let path = format!("{}/../docs/sources/{kind}.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (_, section) = text.split_once("\n## Settings\n").unwrap_or_else(|| panic!("{kind} has no settings"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| ticked(row.split('|').nth(1).unwrap_or_default())).collect()
}

#[test]
fn every_setting_stands_on_the_page_of_its_type() {
    let named = serde_json::from_value::<SourceSettings>(serde_json::json!({"type": "none", "config": {}}));
    let kinds = ticked(named.unwrap_err().to_string().split_once("expected").unwrap().1);
    assert!(kinds.len() >= 6, "{kinds:?}");
    for kind in kinds {
        assert_eq!(of_the_page(&kind), of_the_struct(&kind), "{kind}");
    }
}

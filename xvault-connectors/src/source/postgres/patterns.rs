//! Patterns of tables and schemas as `pg_dump` takes them, for a query.

use std::fmt::Write;

use xvault_core::source::PostgresSettings;

/// What a regular expression takes for more than itself.
const SPECIAL: &str = "|*+?()[]{}.^$\\";

/// The rows of `VALUES` for all patterns of `settings`: what a pattern is for, its number among those, and the regular expressions
/// for the schema, or NULL, and the name.
pub(super) fn rows(settings: &PostgresSettings) -> String {
    let all = [
        ("schema", &settings.schemas),
        ("no schema", &settings.exclude_schemas),
        ("table", &settings.tables),
        ("no table", &settings.exclude_tables),
    ];
    // There is one row at least.
    let mut rows = "('', 0, NULL::text, '')".to_owned();
    for (what, patterns) in all {
        for (number, pattern) in patterns.iter().enumerate() {
            let (schema, name) = expressions(pattern);
            let schema = schema.map_or("NULL".to_owned(), |schema| text(&schema));
            // Writing to a string does not fail.
            let _ = write!(rows, ", ('{what}', {number}, {schema}, {})", text(&name));
        }
    }
    rows
}

/// A text whatever stands in it.
fn text(text: &str) -> String {
    let digits: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("convert_from(decode('{digits}', 'hex'), 'UTF8')")
}

/// For the schema, where the pattern names one, and for the name.
fn expressions(pattern: &str) -> (Option<String>, String) {
    let mut parts = vec![String::new()];
    let (mut quoted, mut signs) = (false, pattern.chars().peekable());
    while let Some(sign) = signs.next() {
        let Some(part) = parts.last_mut() else { continue };
        match sign {
            '"' if quoted && signs.peek() == Some(&'"') => part.extend(signs.next()),
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            '*' if !quoted => part.push_str(".*"),
            '?' if !quoted => part.push('.'),
            '[' if !quoted && signs.peek() == Some(&']') => part.push_str("\\["),
            ']' if !quoted && part.ends_with("\\[") => part.push_str("\\]"),
            _ if sign == '$' || quoted && SPECIAL.contains(sign) => part.extend(['\\', sign]),
            _ if quoted => part.push(sign),
            _ => part.push(sign.to_ascii_lowercase()),
        }
    }
    let mut whole = parts.iter().map(|part| format!("^({part})$"));
    let name = whole.next_back().unwrap_or_default();
    (whole.next_back(), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_read_as_pg_dump_reads_it() {
        for (pattern, schema, name) in [
            ("Orders", None, "^(orders)$"),
            ("\"Orders\"", None, "^(Orders)$"),
            ("wp_*", None, "^(wp_.*)$"),
            ("a?|b", None, "^(a.|b)$"),
            ("Sales.\"a.b\"", Some("^(sales)$"), "^(a\\.b)$"),
            ("\"it\"\"s*\".x$", Some("^(it\"s\\*)$"), "^(x\\$)$"),
            ("db.s.t", Some("^(s)$"), "^(t)$"),
            ("a[0-9]", None, "^(a[0-9])$"),
            ("a[]", None, "^(a\\[\\])$"),
        ] {
            assert_eq!(expressions(pattern), (schema.map(str::to_owned), name.to_owned()), "{pattern}");
        }
    }
}

//! What drop-ins for several databases are set up by: whether that is one database all the same.

use super::lexer::{Kind, Token, tokens};
use super::quoted::Part;

/// Whether a `db-config.php` names no database but that of `wp-config.php`, maybe on several servers, and puts no tables apart.
pub(crate) fn is_of_one_database(source: &[u8]) -> bool {
    let Ok(tokens) = tokens(source) else { return false };
    let at = |place: usize| tokens.get(place);
    let is_own = |key: usize| {
        at(key + 1).is_some_and(|arrow| matches!(arrow.kind, Kind::Op("=>")))
            && at(key + 2).is_some_and(|value| is_name(value, b"DB_NAME"))
            && at(key + 3).is_some_and(|end| matches!(end.kind, Kind::Op("," | ")" | "]")))
    };
    let mut names =
        (0..tokens.len()).filter(|key| at(*key).is_some_and(|token| is_text(token, b"name"))).peekable();
    let is_split = |token: &Token<'_>| {
        is_text(token, b"dataset")
            || [&b"add_callback"[..], b"add_table"].iter().any(|name| is_name(token, name))
    };
    names.peek().is_some() && names.all(is_own) && !tokens.iter().any(is_split)
}

fn is_name(token: &Token<'_>, name: &[u8]) -> bool {
    matches!(&token.kind, Kind::Name(found) if *found == name)
}

fn is_text(token: &Token<'_>, text: &[u8]) -> bool {
    matches!(&token.kind, Kind::Text(parts) if matches!(parts.as_slice(), [Part::Bytes(found)] if found.as_ref() == text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_one_database_and_partitions_are_several() {
        let own = "<?php // 'name' => 'x', 'dataset'\n$wpdb->add_database(array('host' => DB_HOST, 'name' => DB_NAME));\n\
                   $wpdb->add_database(['host' => 'replica', 'write' => 0, \"name\" => DB_NAME]);";
        assert!(is_of_one_database(own.as_bytes()));
        for other in [
            "<?php $wpdb->add_database(['host' => DB_HOST, 'name' => 'second']);",
            "<?php $wpdb->add_database(['name' => DB_NAME, 'dataset' => 'users']);",
            "<?php $wpdb->add_database(['name' => DB_NAME]); $wpdb->add_callback('where');",
            "<?php $wpdb->add_database(['name' => DB_NAME . '_2', 'host' => 'h'); $x = 'name';",
            "<?php require 'databases.php';",
            "<?php 'unclosed",
        ] {
            assert!(!is_of_one_database(other.as_bytes()), "{other}");
        }
    }
}

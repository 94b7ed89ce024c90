//! `wp-includes/version.php`: which WordPress it is.

use super::php::{self, Surroundings};

/// What `$wp_version` is, if it can be known.
pub(crate) fn version(source: &[u8]) -> Option<String> {
    let surroundings =
        Surroundings { path: b"/wp-includes/version.php", constants: &[], document_root: None };
    let state = php::follow(source, surroundings, b"/").ok()?;
    let text = state.variable("wp_version")?.to_text().ok()?;
    let text = std::str::from_utf8(&text).ok()?;
    let is_version = !text.is_empty() && text.len() <= 64 && text.chars().all(|c| c.is_ascii_graphic());
    is_version.then(|| text.to_owned())
}

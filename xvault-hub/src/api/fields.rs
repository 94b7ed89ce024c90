//! What fields of several resources have in common.

use super::error::{Error, Result};

/// The longest name, in characters.
const MAX_NAME: usize = 200;

/// What [`name`] takes, for the API's description: something to see in it, and no control characters.
#[derive(utoipa::ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 200,
    pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$")]
#[expect(dead_code, reason = "it stands for the schema of a text that `name` checks")]
pub(crate) struct Name(String);

/// A name for people, without the blanks around it.
pub(crate) fn name(field: &str, text: &str) -> Result<String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > MAX_NAME || text.chars().any(char::is_control) {
        return Err(Error::invalid_field(field, format!("1 to {MAX_NAME} printable characters are needed")));
    }
    Ok(text.to_owned())
}

/// What a list is searched for. No row holds a control character there, and PostgreSQL takes no NUL.
pub(crate) fn sought(parameter: &str, text: Option<String>) -> Result<Option<String>> {
    match text {
        Some(text) if text.chars().count() > MAX_NAME || text.chars().any(char::is_control) => {
            Err(Error::bad_request(format!("`{parameter}` takes up to {MAX_NAME} printable characters")))
        }
        text => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_printable_and_short() {
        assert_eq!(name("name", "  web 1 ").unwrap(), "web 1");
        assert_eq!(name("name", &"ä".repeat(200)).unwrap().chars().count(), 200);
        for bad in ["", "   ", "a\nb", "a\0b", &"x".repeat(201)] {
            assert!(name("name", bad).is_err(), "{bad:?}");
        }
    }
}

//! What an expression comes to.

use std::fmt;
use std::sync::Arc;

/// Why something can't be known: the line, and the construct. Never holds text of the file's strings: they are secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Why {
    pub(in super::super) line: u32,
    pub(in super::super) what: Arc<str>,
}

impl Why {
    pub(super) fn new(line: u32, what: impl AsRef<str>) -> Self {
        Self { line, what: Arc::from(what.as_ref()) }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// A value of PHP, as far as it can be known.
#[derive(Clone, PartialEq, Eq)]
pub(in super::super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Text(Arc<[u8]>),
    /// A variable of PHP's environment, which nobody sees from outside.
    Env(Why),
    /// A variable that was not set: null, with a complaint of PHP's.
    Unset(Why),
    /// Something else that can't be known.
    Unknown(Why),
}

impl Value {
    pub(super) fn text(bytes: &[u8]) -> Self {
        Self::Text(Arc::from(bytes))
    }

    pub(super) fn unknown(line: u32, what: impl AsRef<str>) -> Self {
        Self::Unknown(Why::new(line, what))
    }

    /// Whether PHP takes it for true.
    pub(in super::super) fn truth(&self) -> Result<bool, Why> {
        match self {
            Self::Null => Ok(false),
            Self::Bool(is) => Ok(*is),
            Self::Int(number) => Ok(*number != 0),
            Self::Text(text) => Ok(!matches!(text.as_ref(), b"" | b"0")),
            Self::Env(why) | Self::Unset(why) | Self::Unknown(why) => Err(why.clone()),
        }
    }

    /// What PHP makes of it where text is needed.
    pub(in super::super) fn to_text(&self) -> Result<Arc<[u8]>, Why> {
        match self {
            Self::Null | Self::Bool(false) => Ok(Arc::from(&b""[..])),
            Self::Bool(true) => Ok(Arc::from(&b"1"[..])),
            Self::Int(number) => Ok(Arc::from(number.to_string().as_bytes())),
            Self::Text(text) => Ok(Arc::clone(text)),
            Self::Env(why) | Self::Unset(why) | Self::Unknown(why) => Err(why.clone()),
        }
    }

    /// `===`.
    pub(super) fn is_identical(&self, other: &Self) -> Result<bool, Why> {
        match (self, other) {
            (Self::Env(why) | Self::Unset(why) | Self::Unknown(why), _)
            | (_, Self::Env(why) | Self::Unset(why) | Self::Unknown(why)) => Err(why.clone()),
            (one, other) => Ok(one == other),
        }
    }

    /// `==`, where all versions of PHP agree.
    pub(super) fn is_equal(&self, other: &Self, line: u32) -> Result<bool, Why> {
        match (self, other) {
            (Self::Bool(is), value) | (value, Self::Bool(is)) => Ok(value.truth()? == *is),
            (Self::Text(one), Self::Text(other)) if !is_numeric(one) || !is_numeric(other) => {
                Ok(one == other)
            }
            (Self::Null, Self::Text(text)) | (Self::Text(text), Self::Null) => Ok(text.is_empty()),
            (Self::Int(one), Self::Int(other)) => Ok(one == other),
            (Self::Null, Self::Null) => Ok(true),
            (Self::Env(why) | Self::Unset(why) | Self::Unknown(why), _)
            | (_, Self::Env(why) | Self::Unset(why) | Self::Unknown(why)) => Err(why.clone()),
            _ => Err(Why::new(line, "a comparison of numbers with text")),
        }
    }
}

/// Whether PHP may take the text for a number.
fn is_numeric(text: &[u8]) -> bool {
    text.first().is_some_and(|first| first.is_ascii_digit() || b" \t\n\r\x0b\x0c+-.".contains(first))
}

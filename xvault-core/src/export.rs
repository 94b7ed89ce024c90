//! The forms in which a snapshot, or a part of it, is handed out in plain.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Dispose, Disposition};

/// How entries are packed for somebody who has no xVault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ExportFormat {
    /// POSIX tar with PAX records: keeps everything that the snapshot has.
    #[default]
    #[serde(rename = "tar")]
    Tar,
    /// The same tar, compressed with zstd.
    #[serde(rename = "tar.zst")]
    TarZst,
    /// ZIP with names that every system can have: for people without tar.
    #[serde(rename = "zip")]
    Zip,
}

/// Text that names no [`ExportFormat`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no export format: use tar, tar.zst or zip")]
pub struct UnknownFormat(String);

impl Dispose for UnknownFormat {
    fn disposition(&self) -> Disposition {
        Disposition::Permanent
    }
}

impl ExportFormat {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tar, Self::TarZst, Self::Zip];

    /// The word used in JSON, in URLs and on the command line; the extension of file names as well.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::TarZst => "tar.zst",
            Self::Zip => "zip",
        }
    }

    /// What a file name ends in, without the dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        self.as_str()
    }

    /// The media type of a response that carries it.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Tar => "application/x-tar",
            Self::TarZst => "application/zstd",
            Self::Zip => "application/zip",
        }
    }
}

impl fmt::Display for ExportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ExportFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let found = Self::ALL.into_iter().find(|format| format.as_str() == text);
        found.ok_or_else(|| UnknownFormat(text.chars().take(32).filter(|c| !c.is_control()).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_serves_json_urls_and_the_command_line() {
        for format in ExportFormat::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
            assert_eq!(serde_json::to_value(format).unwrap(), format.as_str());
            assert_eq!(serde_json::from_value::<ExportFormat>(format.as_str().into()).unwrap(), format);
        }
        let error = "rar\n".parse::<ExportFormat>().unwrap_err();
        assert_eq!(error.to_string(), "`rar` is no export format: use tar, tar.zst or zip");
    }
}

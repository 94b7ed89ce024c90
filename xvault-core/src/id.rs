//! Typed ids: a tenant id where a source id belongs does not compile.
//!
//! Every id is part of a path on some store, so every id matches
//! `[a-zA-Z0-9_-]{1,64}` by construction; nothing else can be made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

/// The longest id, in bytes.
pub const MAX_LEN: usize = 64;

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {kind}: 1 to 64 characters of a-z, A-Z, 0-9, _ and - are")]
pub struct InvalidId {
    kind: &'static str,
    text: String,
}

fn check(kind: &'static str, text: &str) -> Result<(), InvalidId> {
    let fits = (1..=MAX_LEN).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if fits {
        Ok(())
    } else {
        // Foreign text may be long or hold control characters: show it short and escaped.
        let shown: String = text.chars().take(MAX_LEN).flat_map(char::escape_debug).collect();
        Err(InvalidId { kind, text: shown })
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^[a-zA-Z0-9_-]{1,64}$"))]
        pub struct $name(Box<str>);

        impl $name {
            /// A new id, a `UUIDv7`: unique without coordination and sorted by the time it was made.
            #[must_use]
            pub fn generate() -> Self {
                Self(crate::clock::new_uuid().hyphenated().to_string().into())
            }

            /// The id that always belongs to `address`: a `UUIDv8` of its BLAKE3 hash.
            #[must_use]
            pub fn derive(address: &str) -> Self {
                let mut seed = [0; 16];
                blake3::Hasher::new_derive_key(concat!("xvault 2026 ", $kind))
                    .update(address.as_bytes())
                    .finalize_xof()
                    .fill(&mut seed);
                Self(Uuid::new_v8(seed).hyphenated().to_string().into())
            }

            /// The id as it stands in paths.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                check($kind, text)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// Who owns sources and snapshots. One-shot backups of the command line belong to `local`.
    TenantId = "tenant id";
    /// A system that is backed up.
    SourceId = "source id";
    /// One backup of one source.
    SnapshotId = "snapshot id";
    /// One piece of work.
    JobId = "job id";
    /// The program that does the work; operators choose these by hand (`worker-1`).
    WorkerId = "worker id";
    /// A person who logs in.
    UserId = "user id";
    /// A password or private key that a source is read with.
    CredentialId = "credential id";
    /// A place that snapshots lie in, as operators and tenants save it.
    StoreId = "store id";
    /// A token for programs.
    ApiKeyId = "api key id";
    /// A login, and all that descends from it.
    SessionId = "session id";
    /// When a source is backed up.
    ScheduleId = "schedule id";
    /// A link to a download.
    DownloadId = "download id";
    /// What a worker shows to prove that a job is still its own. Ours, so never guessed from outside: 74 random bits.
    LeaseToken = "lease token";
    /// What tells a claim from others, so that it can be repeated. The worker's secret: the lease token is made of it.
    ClaimNonce = "claim nonce";
}

impl TenantId {
    /// The tenant of backups that are made without a hub.
    #[must_use]
    pub fn local() -> Self {
        Self("local".into())
    }
}

impl WorkerId {
    /// The worker of backups that are made without a hub.
    #[must_use]
    pub fn local() -> Self {
        Self("local".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn generated_ids_sort_by_time() {
        let ids: Vec<_> = (0..100).map(|_| SnapshotId::generate()).collect();
        assert!(ids.is_sorted(), "{ids:?}");
    }

    #[test]
    fn derived_ids_depend_on_kind_and_address() {
        assert_eq!(SourceId::derive("sftp://a"), SourceId::derive("sftp://a"));
        assert_ne!(SourceId::derive("sftp://a"), SourceId::derive("sftp://b"));
        assert_ne!(SourceId::derive("x").as_str(), TenantId::derive("x").as_str());
    }

    #[test]
    fn a_hostile_id_is_refused_with_its_kind() {
        for text in ["", "..", "a/b", "a\0b", "é", &"x".repeat(65), "a b", ".", "a.b"] {
            let error = text.parse::<TenantId>().unwrap_err().to_string();
            assert!(error.contains("tenant id"), "{error}");
            assert!(serde_json::from_value::<SourceId>(text.into()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_accepts_exactly_the_pattern(text in ".{0,70}") {
            let allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
            let fits = !text.is_empty() && text.len() <= 64 && text.chars().all(|c| allowed.contains(c));
            prop_assert_eq!(text.parse::<JobId>().is_ok(), fits);
        }

        #[test]
        fn ids_round_trip(text in "[a-zA-Z0-9_-]{1,64}") {
            let id: WorkerId = text.parse().unwrap();
            prop_assert_eq!(id.to_string(), text.clone());
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<WorkerId>(&json).unwrap(), id);
        }
    }
}

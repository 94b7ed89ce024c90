//! What a job may do in a store, as the policy of its session: below one prefix of one bucket, and nothing else.

use serde_json::{Value, json};
use xvault_core::S3Settings;

use super::Purpose;

/// Puts objects and gives up uploads, and can't read, list or delete. That it can't look whether it writes over something does no
/// harm: each attempt has a snapshot id of its own.
const WRITE: &[&str] = &["s3:PutObject", "s3:AbortMultipartUpload"];
/// The same where what is put is locked.
const WRITE_LOCKED: &[&str] = &["s3:PutObject", "s3:PutObjectRetention", "s3:AbortMultipartUpload"];
const READ: &[&str] = &["s3:GetObject"];
const DELETE: &[&str] = &["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:AbortMultipartUpload"];
const SWEEP: &[&str] = &[
    "s3:GetObject",
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
];
const TEST: &[&str] = &[
    "s3:PutObject",
    "s3:GetObject",
    "s3:GetObjectVersion",
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:PutObjectRetention",
    "s3:GetObjectRetention",
    "s3:AbortMultipartUpload",
];

/// The policy of a session for this purpose, below `prefix` of the store, which locks what is put there or not.
pub(super) fn of(settings: &S3Settings, prefix: &str, purpose: Purpose, locks: bool) -> Value {
    let bucket = format!("arn:aws:s3:::{}", settings.bucket);
    let below = settings.object_key(prefix);
    let objects = format!("{bucket}/{below}/*");
    let mut statements =
        vec![json!({ "Effect": "Allow", "Action": actions(purpose, locks), "Resource": [objects] })];
    if purpose != Purpose::Write && purpose != Purpose::ReadBack {
        statements.push(json!({
            "Effect": "Allow",
            "Action": ["s3:ListBucket", "s3:ListBucketVersions"],
            "Resource": [bucket],
            "Condition": { "StringLike": { "s3:prefix": [below, format!("{below}/*")] } },
        }));
    }
    if purpose == Purpose::Sweep || purpose == Purpose::Test {
        // Neither of these can be narrowed to a prefix: they name keys, and settings of the bucket.
        let looks = [
            "s3:ListBucketMultipartUploads",
            "s3:GetBucketVersioning",
            "s3:GetBucketObjectLockConfiguration",
        ];
        statements.push(json!({ "Effect": "Allow", "Action": looks, "Resource": [bucket] }));
    }
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// The policy of a session that reads this one object of the store.
pub(super) fn of_link(settings: &S3Settings, object: &str) -> Value {
    let resource = format!("arn:aws:s3:::{}/{object}", settings.bucket);
    let statement = json!({ "Effect": "Allow", "Action": READ, "Resource": [resource] });
    json!({ "Version": "2012-10-17", "Statement": [statement] })
}

fn actions(purpose: Purpose, locks: bool) -> &'static [&'static str] {
    match purpose {
        Purpose::Write if locks => WRITE_LOCKED,
        Purpose::Write => WRITE,
        Purpose::ReadBack | Purpose::Read => READ,
        Purpose::Delete => DELETE,
        Purpose::Sweep => SWEEP,
        Purpose::Test => TEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_may_put_below_its_snapshot_and_nothing_else() {
        let settings: S3Settings = serde_json::from_value(json!({ "bucket": "b-1", "prefix": "x" })).unwrap();
        let policy = of(&settings, "tenants/t/sources/s/snapshots/1", Purpose::Write, false);
        let statement = json!([{
            "Effect": "Allow",
            "Action": ["s3:PutObject", "s3:AbortMultipartUpload"],
            "Resource": ["arn:aws:s3:::b-1/x/tenants/t/sources/s/snapshots/1/*"],
        }]);
        assert_eq!(policy["Statement"], statement);
        let locking = of(&settings, "tenants/t/sources/s/snapshots/1", Purpose::Write, true);
        let more = json!(["s3:PutObject", "s3:PutObjectRetention", "s3:AbortMultipartUpload"]);
        assert_eq!((&locking["Statement"][0]["Action"], &locking["Statement"][1]), (&more, &json!(null)));
    }

    #[test]
    fn a_link_may_read_its_object_and_nothing_else() {
        let settings: S3Settings = serde_json::from_value(json!({ "bucket": "b-1" })).unwrap();
        let statement =
            json!([{ "Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::b-1/a/b"] }]);
        assert_eq!(of_link(&settings, "a/b")["Statement"], statement);
    }

    #[test]
    fn every_policy_fits_into_a_session() {
        let long = "p".repeat(200);
        let settings: S3Settings =
            serde_json::from_value(json!({ "bucket": "b".repeat(63), "prefix": long })).unwrap();
        let prefix = format!("tenants/{0}/sources/{0}/snapshots/{0}", "i".repeat(36));
        for purpose in [Purpose::Write, Purpose::ReadBack, Purpose::Read, Purpose::Delete] {
            let policy = of(&settings, &prefix, purpose, true).to_string();
            assert!(policy.len() <= 2048, "{purpose:?}: {}", policy.len());
        }
    }
}

//! Object lock on real servers: what is locked, what is proven, and what goes when a lock is over.

use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use xvault_connectors::{Error, S3Store, Store};
use xvault_core::protocol::{Ability, Found, StoreReport};
use xvault_core::snapshot::{ARTIFACT_NAME, MANIFEST_NAME};
use xvault_core::store::{LockMode, ObjectLock};
use xvault_testkit::{FaultProxy, Garage, S3Access, SeaweedFs};

use crate::s3_support::{SNAPSHOT, stage, store, through};

const MIB: usize = 1 << 20;

/// In whole seconds.
fn lock(mode: LockMode, seconds: i64) -> ObjectLock {
    let until = xvault_core::clock::now() + SignedDuration::from_secs(seconds);
    ObjectLock { mode, until: Timestamp::from_second(until.as_second()).unwrap() }
}

async fn write(store: &S3Store) {
    let chunks = (0..9).map(|n| Bytes::from(vec![n; MIB]));
    let staging = stage(store, ARTIFACT_NAME, chunks).await.unwrap();
    let mut small = staging.writer("meta.json").await.unwrap();
    small.write(Bytes::from_static(b"{}")).await.unwrap();
    small.close().await.unwrap();
    staging.commit(MANIFEST_NAME, Bytes::from_static(b"{}")).await.unwrap();
}

#[tokio::test]
async fn every_object_of_a_snapshot_is_locked_and_stays_until_that_is_over() {
    let access = SeaweedFs::shared().new_locking_bucket();
    let lock = lock(LockMode::Compliance, 6);
    let store = store(&access).locking(lock).deleting_all_versions();
    write(&store).await;
    store.put(&format!("{SNAPSHOT}/reported"), Bytes::from_static(b"x")).await.unwrap();
    let told = Some(("COMPLIANCE".to_owned(), lock.until.to_string()));
    for name in [ARTIFACT_NAME, "meta.json", MANIFEST_NAME, "reported"] {
        assert_eq!(access.lock(&format!("some/place/{SNAPSHOT}/{name}")), told, "{name}");
    }
    let end = |name: &str| format!("{SNAPSHOT}/{name}");
    assert_eq!(store.locked_until(&end(MANIFEST_NAME)).await.unwrap(), Some(lock.until));
    let missing = store.locked_until(&end("missing")).await.unwrap_err();
    assert!(matches!(missing, Error::NotFound(_)), "{missing:?}");
    let before = access.versions("");
    assert_eq!(before.len(), 4, "{before:?}");
    for (key, version) in &before {
        let deleted = access.in_bucket("DELETE", &format!("{key}?versionId={version}"), b"");
        assert_eq!(deleted.status, 403, "another client finds {key} unlocked");
    }
    let manifest = format!("{SNAPSHOT}/{MANIFEST_NAME}");
    assert!(matches!(store.delete(&manifest).await.unwrap_err(), Error::Denied { .. }));
    assert!(matches!(store.delete_all(SNAPSHOT).await.unwrap_err(), Error::Denied { .. }));
    assert_eq!((access.versions(""), store.size(&manifest).await.unwrap()), (before, Some(2)));
    tokio::time::sleep(Duration::from_secs(7)).await;
    store.delete(&manifest).await.unwrap();
    assert_eq!((store.size(&manifest).await.unwrap(), access.versions("").len()), (None, 3));
    store.delete_all(SNAPSHOT).await.unwrap();
    assert_eq!(access.versions(""), []);
    assert!(access.uploads().is_empty());
}

#[tokio::test]
async fn what_is_deleted_with_all_versions_is_gone_and_nothing_else() {
    let access = SeaweedFs::shared().new_locking_bucket();
    let plain = store(&access);
    let other = format!("{SNAPSHOT}/manifest.json.other");
    for _ in 0..2 {
        plain.put(&format!("{SNAPSHOT}/{MANIFEST_NAME}"), Bytes::from_static(b"{}")).await.unwrap();
        plain.put(&other, Bytes::from_static(b"x")).await.unwrap();
    }
    plain.put(&format!("{SNAPSHOT}y/{MANIFEST_NAME}"), Bytes::from_static(b"{}")).await.unwrap();
    assert_eq!(plain.locked_until(&other).await.unwrap(), None);
    plain.delete(&format!("{SNAPSHOT}/{MANIFEST_NAME}")).await.unwrap();
    assert_eq!(access.versions("").len(), 6, "without, a mark more hides what stays");
    let store = plain.deleting_all_versions();
    store.delete(&format!("{SNAPSHOT}/{MANIFEST_NAME}")).await.unwrap();
    assert_eq!((access.versions("").len(), store.size(&other).await.unwrap()), (3, Some(1)));
    store.delete_all(SNAPSHOT).await.unwrap();
    let left: Vec<_> = access.versions("").into_iter().map(|(key, _)| key).collect();
    assert_eq!(left, [format!("some/place/{SNAPSHOT}y/{MANIFEST_NAME}")]);
}

#[tokio::test]
async fn a_thousand_versions_and_more_go() {
    let access = SeaweedFs::shared().new_locking_bucket();
    let store = store(&access);
    let put = |number: usize| {
        let store = store.clone();
        async move { store.put(&format!("{SNAPSHOT}/{}", number % 7), Bytes::from_static(b"x")).await }
    };
    use futures::{StreamExt as _, TryStreamExt as _};
    futures::stream::iter((0..1200).map(put)).buffer_unordered(16).try_collect::<Vec<_>>().await.unwrap();
    store.deleting_all_versions().delete_all(SNAPSHOT).await.unwrap();
    assert_eq!(access.versions(""), []);
}

async fn examined(store: &S3Store) -> StoreReport {
    StoreReport { observations: store.examine("tenants/t/tests/j").await.unwrap() }
}

/// What was found of both modes, and what was seen of the first.
fn of_locks(report: &StoreReport) -> ([Found; 2], &str) {
    let found = [Ability::ObjectLock, Ability::GovernanceLock].map(|ability| report.found(ability));
    let seen = report.observations.iter().find(|seen| seen.ability == Ability::ObjectLock).unwrap();
    (found, &seen.seen)
}

#[tokio::test]
async fn a_bucket_with_object_lock_is_proven_and_nothing_is_left() {
    let access = SeaweedFs::shared().new_locking_bucket();
    let report = examined(&store(&access)).await;
    let (found, seen) = of_locks(&report);
    assert_eq!(found, [Found::Yes; 2], "{report:?}");
    assert!(seen.contains("COMPLIANCE") && seen.contains("AccessDenied"), "{seen}");
    for ability in [Ability::Versioning, Ability::Delete, Ability::DeleteVersion] {
        assert!(report.has(ability), "{ability:?}: {report:?}");
    }
    assert_eq!((access.versions(""), access.uploads()), (vec![], vec![]));
}

#[tokio::test]
async fn a_bucket_without_object_lock_is_found_out() {
    let seaweed = SeaweedFs::shared();
    let plain = seaweed.new_bucket();
    let report = examined(&store(&plain)).await;
    let (found, seen) = of_locks(&report);
    assert_eq!((found, seen), ([Found::No; 2], "the server keeps no versions, and only these can be locked"));
    // With versions, and made without object lock.
    let versions = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    assert_eq!(plain.in_bucket("PUT", "?versioning=", versions.as_bytes()).status, 200);
    let report = examined(&store(&plain)).await;
    let (found, seen) = of_locks(&report);
    assert!(report.has(Ability::Versioning) && found == [Found::No; 2], "{report:?}");
    assert!(seen.contains("InvalidRequest"), "{seen}");
    assert_eq!(plain.versions(""), []);
}

#[tokio::test]
#[ignore = "needs Garage: scripts/test --full"]
async fn garage_takes_the_lock_and_is_found_out() {
    let access = Garage::shared().new_bucket();
    let report = examined(&store(&access)).await;
    let (found, seen) = of_locks(&report);
    assert_eq!(found, [Found::No; 2], "{report:?}");
    // It names versions, and keeps none.
    assert!(seen.contains("the lock was taken, and the object's version deleted all the same"), "{seen}");
    assert!(access.keys("").is_empty());
}

/// A server that only pretends: what it answers to requests with this text in them is made up.
#[tokio::test]
async fn each_way_to_pretend_is_found_out() {
    let seaweed = SeaweedFs::shared();
    let pretenders = [
        ("DELETE", "locked-compliance?versionId=", "204 No Content", "deleted all the same"),
        ("PUT", "locked-compliance?retention=", "200 OK", "shortened all the same"),
        ("DELETE", "locked-compliance-parts?versionId=", "204 No Content", "in parts was deleted"),
        ("GET", "locked-compliance?versionId=", "404 Not Found", "the locked version was gone"),
        ("DELETE", "locked-compliance?versionId=", "404 Not Found", "which was locked, is gone"),
    ];
    let cases = pretenders.map(|(method, text, status, words)| async move {
        let access = seaweed.new_locking_bucket();
        let proxy = FaultProxy::start(seaweed.port());
        let text = format!("{method} /{}/some/place/tenants/t/tests/j/{text}", access.bucket);
        proxy.answer_instead(&text, 1, status, "");
        let report = examined(&store(&through(proxy.port, &access))).await;
        let ([compliance, governance], seen) = of_locks(&report);
        assert_eq!(
            (compliance, governance, proxy.answered()),
            (Found::No, Found::Yes, 1),
            "{text}: {report:?}"
        );
        assert!(seen.contains(words), "{text}: {seen}");
    });
    futures::future::join_all(cases).await;
}

#[tokio::test]
async fn going_past_a_lock_is_no_compliance() {
    let seaweed = SeaweedFs::shared();
    let access = seaweed.new_locking_bucket();
    let proxy = FaultProxy::start(seaweed.port());
    proxy.answer_instead("x-amz-bypass-governance-retention", 1, "204 No Content", "");
    let report = examined(&store(&through(proxy.port, &access))).await;
    let (found, seen) = of_locks(&report);
    assert_eq!(found, [Found::No, Found::Yes], "{report:?}");
    assert!(seen.contains("asking to go past the lock"), "{seen}");
}

/// Whose deletions are refused anyway can prove nothing by a refusal.
#[tokio::test]
async fn a_credential_that_may_not_delete_proves_nothing() {
    let seaweed = SeaweedFs::shared();
    let access = seaweed.new_locking_bucket();
    let objects = format!("arn:aws:s3:::{}/*", access.bucket);
    let actions = ["s3:PutObject", "s3:GetObject", "s3:GetObjectVersion", "s3:PutObjectRetention"];
    let policy = json!({"Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": actions, "Resource": [objects]}]});
    let scoped = S3Access { bucket: access.bucket.clone(), ..seaweed.assume_role(&policy) };
    let report = examined(&store(&scoped)).await;
    let (found, seen) = of_locks(&report);
    assert_eq!((found, report.found(Ability::Delete)), ([Found::Unknown; 2], Found::No), "{report:?}");
    assert_eq!(report.found(Ability::DeleteVersion), Found::No, "{report:?}");
    assert!(seen.contains("a refusal proves nothing") && seen.contains("AccessDenied"), "{seen}");
}

//! Stores in buckets: what every store must do, on real servers, and what only these do.

use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use xvault_connectors::snapshot::snapshot_of;
use xvault_connectors::{Error, S3Store, Store, Swept, conformance};
use xvault_core::error::chain;
use xvault_core::secret::ExposeSecret;
use xvault_core::snapshot::{ARTIFACT_NAME, Locator};
use xvault_core::store::Addressing;
use xvault_core::{Dispose, Disposition, WorkerId};
use xvault_testkit::tools::run;
use xvault_testkit::trees::Xorshift;
use xvault_testkit::{Garage, S3Access, SeaweedFs, tool};

use crate::s3_support::{SNAPSHOT, credential, options, settings, stage, store};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn a_bucket_is_a_store_like_any_other() {
    let access = SeaweedFs::shared().new_bucket();
    conformance::store(&store(&access)).await.unwrap();
    assert!(access.keys("").is_empty() && access.uploads().is_empty());
}

#[tokio::test]
#[ignore = "needs Garage: scripts/test --full"]
async fn a_bucket_of_garage_is_one_too() {
    let access = Garage::shared().new_bucket();
    conformance::store(&store(&access)).await.unwrap();
    assert!(access.keys("").is_empty() && access.uploads().is_empty());
    large_objects_come_back(&access).await;
}

#[tokio::test]
async fn a_bucket_may_be_a_host_name_under_a_certificate_of_ones_own() {
    let seaweed = SeaweedFs::shared();
    let access = seaweed.new_bucket();
    let mut settings = settings(&access);
    settings.endpoint = Some(seaweed.tls_endpoint());
    settings.ca_certificate = Some(std::fs::read_to_string(seaweed.certificate()).unwrap());
    for addressing in [Addressing::Path, Addressing::VirtualHost] {
        settings.addressing = addressing;
        let store = S3Store::new(&settings, &credential(&access), options()).unwrap();
        conformance::store(&store).await.unwrap();
    }
}

/// Pieces of a length that fits into no part.
fn pieces(bytes: &Bytes) -> Vec<Bytes> {
    (0..bytes.len()).step_by(700_001).map(|at| bytes.slice(at..bytes.len().min(at + 700_001))).collect()
}

async fn large_objects_come_back(access: &S3Access) {
    let store = store(access);
    let bytes = Bytes::from(Xorshift::new(5).bytes(33 * MIB + 5));
    let staging = stage(&store, ARTIFACT_NAME, pieces(&bytes)).await.unwrap();
    assert_eq!(staging.size(ARTIFACT_NAME).await.unwrap(), Some(bytes.len() as u64));
    staging.commit("manifest.json", Bytes::from_static(b"{}")).await.unwrap();
    let key = format!("{SNAPSHOT}/{ARTIFACT_NAME}");
    // Over the seam of two parts.
    let seam = 8 * MIB - 3..8 * MIB + 3;
    assert_eq!(store.read(&key, seam.start as u64..seam.end as u64).await.unwrap(), bytes.slice(seam));
    let place = format!("s3:{}/some/place/{key}", access.bucket);
    assert!(run(&mut access.rclone(&["cat", &place])) == bytes, "another client reads other bytes");
    assert!(access.uploads().is_empty());
}

#[tokio::test]
async fn what_does_not_fit_into_one_part_comes_back_also_to_another_client() {
    large_objects_come_back(&SeaweedFs::shared().new_bucket()).await;
}

/// A tag tells in how many parts an object was sent.
async fn parts_of(access: &S3Access, expected: Option<u64>) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let options = options().scratch_dir(scratch.path());
    let store = S3Store::new(&settings(access), &credential(access), options).unwrap();
    let staging = store.stage(SNAPSHOT).await.unwrap();
    let mut writer = staging.writer(ARTIFACT_NAME).await.unwrap();
    if let Some(bytes) = expected {
        writer.expect(bytes);
    }
    writer.write(vec![7; 33 * MIB].into()).await.unwrap();
    writer.close().await.unwrap();
    staging.commit("manifest.json", Bytes::from_static(b"{}")).await.unwrap();
    let Locator::S3 { etag: Some(etag), .. } = store.locator(&WorkerId::local(), SNAPSHOT) else { panic!() };
    etag.rsplit_once('-').unwrap().1.to_owned()
}

#[tokio::test]
async fn an_object_that_will_be_large_has_longer_parts_from_the_start() {
    let seaweed = SeaweedFs::shared();
    assert_eq!(parts_of(&seaweed.new_bucket(), None).await, "5");
    // Of 16 MiB, which makes 148 GiB in 9,500 parts.
    assert_eq!(parts_of(&seaweed.new_bucket(), Some(9_500 * 16 * MIB as u64)).await, "3");
}

#[tokio::test]
async fn a_locator_has_the_tag_of_its_artifact() {
    let access = SeaweedFs::shared().new_bucket();
    let store = store(&access);
    let staging = stage(&store, ARTIFACT_NAME, [Bytes::from_static(b"artifact")]).await.unwrap();
    staging.commit("manifest.json", Bytes::from_static(b"{}")).await.unwrap();
    let Locator::S3 { bucket, object_key, etag } = store.locator(&WorkerId::local(), SNAPSHOT) else {
        panic!("no locator of a bucket")
    };
    assert_eq!((bucket, object_key), (access.bucket.clone(), format!("some/place/{SNAPSHOT}")));
    let key = format!("some/place/{SNAPSHOT}/{ARTIFACT_NAME}");
    let head = String::from_utf8(access.in_bucket("HEAD", &key, b"").body).unwrap().to_lowercase();
    assert!(head.contains(&format!("etag: \"{}\"", etag.unwrap())), "{head}");
}

#[tokio::test]
async fn nothing_is_left_of_what_was_abandoned_or_dropped() {
    let access = SeaweedFs::shared().new_bucket();
    let store = store(&access);
    let staging = stage(&store, "meta.json", [Bytes::from_static(b"{}")]).await.unwrap();
    let mut writer = staging.writer(ARTIFACT_NAME).await.unwrap();
    writer.write(vec![7; 17 * MIB].into()).await.unwrap();
    assert_eq!(access.uploads().len(), 1);
    drop(writer);
    until(|| access.uploads().is_empty()).await;
    drop(staging);
    until(|| access.keys("").is_empty()).await;
    let staging = stage(&store, "meta.json", [Bytes::from_static(b"{}")]).await.unwrap();
    let mut writer = staging.writer(ARTIFACT_NAME).await.unwrap();
    writer.write(vec![7; 17 * MIB].into()).await.unwrap();
    writer.abort().await.unwrap();
    assert!(access.uploads().is_empty());
    staging.abandon().await.unwrap();
    assert!(access.keys("").is_empty());
}

/// What is dropped is removed beside us.
async fn until(holds: impl Fn() -> bool) {
    for _ in 0..400 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("not within ten seconds");
}

#[tokio::test]
async fn a_sweep_takes_what_the_dead_left_and_leaves_what_lives() {
    let access = SeaweedFs::shared().new_bucket();
    let store = store(&access);
    let at = |name: &str| format!("some/place/{}/{name}", SNAPSHOT.replace("/x", "/y"));
    let staging = stage(&store, ARTIFACT_NAME, [Bytes::from_static(b"whole")]).await.unwrap();
    staging.commit("manifest.json", Bytes::from_static(b"{}")).await.unwrap();
    // As a killed run leaves it: an object, and an upload with a part.
    assert_eq!(access.in_bucket("PUT", &at("meta.json"), b"{}").status, 200);
    let begun = access.in_bucket("POST", &format!("{}?uploads=", at(ARTIFACT_NAME)), b"");
    let id = String::from_utf8_lossy(&begun.body).split("UploadId>").nth(1).unwrap().replace("</", "");
    let part = format!("{}?partNumber=1&uploadId={id}", at(ARTIFACT_NAME));
    assert_eq!(access.in_bucket("PUT", &part, b"half").status, 200);
    // And one that had not begun its upload.
    let other_run = format!("some/place/{}/meta.json", SNAPSHOT.replace("/x", "/w"));
    assert_eq!(access.in_bucket("PUT", &other_run, b"{}").status, 200);
    // Not below our place: somebody else's.
    let other = "other/tenants/t/sources/s/snapshots/z/meta.json";
    assert_eq!(access.in_bucket("PUT", other, b"{}").status, 200);
    let hour = store.sweep(Duration::from_secs(3600)).await.unwrap();
    assert_eq!(hour, Swept { removed: 0, in_use: 2, failed: 0 });
    assert_eq!((access.keys("").len(), access.uploads().len()), (5, 1));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    // Old as they are, those that are known to run stay, with what was uploaded of them.
    let running = ["/y", "/w"].map(|id| format!("{}/meta.json", SNAPSHOT.replace("/x", id)));
    let running = running.iter().map(|object| snapshot_of(object).unwrap().0).collect();
    let spared = store.sweep_below("tenants", Duration::ZERO, &running).await.unwrap();
    assert_eq!(spared, Swept { removed: 0, in_use: 2, failed: 0 });
    assert_eq!((access.keys("").len(), access.uploads().len()), (5, 1));
    assert_eq!(store.sweep(Duration::ZERO).await.unwrap(), Swept { removed: 2, in_use: 0, failed: 0 });
    let kept = [ARTIFACT_NAME, "manifest.json"].map(|name| format!("some/place/{SNAPSHOT}/{name}"));
    assert_eq!(access.keys("some/"), kept);
    assert_eq!((access.keys("other/"), access.uploads()), (vec![other.to_owned()], vec![]));
}

#[tokio::test]
async fn an_upload_that_grows_lives_and_keeps_what_is_old_beside_it() {
    let access = SeaweedFs::shared().new_bucket();
    let key = |name: &str| format!("some/place/{SNAPSHOT}/{name}");
    assert_eq!(access.in_bucket("PUT", &key("index.zst.enc"), b"x").status, 200);
    let begun = access.in_bucket("POST", &format!("{}?uploads=", key(ARTIFACT_NAME)), b"");
    let answer = String::from_utf8(begun.body).unwrap();
    let (_, id) = answer.split_once("<UploadId>").unwrap();
    let (id, _) = id.split_once('<').unwrap();
    // Servers tell whole seconds.
    tokio::time::sleep(Duration::from_millis(3100)).await;
    let part = format!("{}?partNumber=1&uploadId={id}", key(ARTIFACT_NAME));
    assert_eq!(access.in_bucket("PUT", &part, b"x").status, 200);
    let swept = store(&access).sweep(Duration::from_secs(2)).await.unwrap();
    assert_eq!(swept, Swept { removed: 0, in_use: 1, failed: 0 });
    assert_eq!(access.keys("some/place/"), [key("index.zst.enc")]);
}

/// What a worker gets for a backup: it can't even see what it wrote.
fn put_only(access: &S3Access) -> Value {
    let below = format!("arn:aws:s3:::{}/some/place/tenants/t/*", access.bucket);
    let actions = ["s3:PutObject", "s3:AbortMultipartUpload"];
    json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": [below]}]})
}

#[tokio::test]
async fn who_may_only_put_makes_a_snapshot_and_reads_with_somebody_elses_right() {
    let seaweed = SeaweedFs::shared();
    let access = seaweed.new_bucket();
    let scoped = S3Access { bucket: access.bucket.clone(), ..seaweed.assume_role(&put_only(&access)) };
    let bytes = Bytes::from(Xorshift::new(6).bytes(17 * MIB));
    let blind = store(&scoped);
    let staging = stage(&blind, ARTIFACT_NAME, pieces(&bytes)).await.unwrap();
    assert_eq!(staging.size(ARTIFACT_NAME).await.unwrap(), Some(bytes.len() as u64));
    let refused = staging.read(ARTIFACT_NAME, 0..10).await.unwrap_err();
    assert!(matches!(refused, Error::Denied { .. }), "{refused:?}");
    staging.commit("manifest.json", Bytes::from_static(b"{}")).await.unwrap();
    let key = format!("{SNAPSHOT}/{ARTIFACT_NAME}");
    for refused in [blind.delete(&key).await, blind.sweep(Duration::ZERO).await.map(drop)] {
        assert!(matches!(refused, Err(Error::Denied { .. })), "{refused:?}");
    }
    let seeing = store(&scoped).reading_with(&credential(&access)).unwrap();
    assert!(seeing.read(&key, 0..bytes.len() as u64).await.unwrap() == bytes);
    let over = chain(&seeing.stage(SNAPSHOT).await.err().unwrap());
    assert_eq!(over, format!("stage {SNAPSHOT}: the snapshot exists already"));
}

#[tokio::test]
async fn a_link_reads_one_object_until_it_expires() {
    let access = SeaweedFs::shared().new_bucket();
    let store = store(&access);
    let staging = stage(&store, "body", [Bytes::from_static(b"hello")]).await.unwrap();
    staging.commit("manifest.json", Bytes::from_static(b"{}")).await.unwrap();
    let link = store.presign_read(&format!("{SNAPSHOT}/body"), Duration::from_secs(2)).await.unwrap();
    assert!(!format!("{link:?}").contains("Signature"));
    let status = |url: &str| {
        let mut curl = Command::new(tool("curl"));
        String::from_utf8(run(curl.args(["-s", "-w", " %{http_code}", url]))).unwrap()
    };
    assert_eq!(status(link.expose_secret()), "hello 200");
    assert!(status(&link.expose_secret().replace("/body", "/manifest.json")).ends_with("403"));
    tokio::time::sleep(Duration::from_millis(3100)).await;
    assert!(status(link.expose_secret()).ends_with("403"));
}

#[tokio::test]
async fn each_thing_that_is_wrong_is_named_with_what_to_do() {
    let seaweed = SeaweedFs::shared();
    let access = seaweed.new_bucket();
    let line = |error: &Error| xvault_core::error::chain(error);
    let staged = |access: S3Access| async move {
        stage(&store(&access), "body", [Bytes::from_static(b"x")]).await.unwrap_err()
    };
    let missing = staged(S3Access { bucket: "no-such-bucket".into(), ..access.clone() }).await;
    assert!(line(&missing).contains("make the bucket, or correct its name"), "{missing:?}");
    let secret = staged(S3Access { secret_key: "guess".into(), ..access.clone() }).await;
    assert!(line(&secret).contains("the secret access key is wrong"), "{secret:?}");
    let key = staged(S3Access { access_key: "AKNOBODY".into(), ..access.clone() }).await;
    assert!(line(&key).contains("does not know this access key id"), "{key:?}");
    let token = staged(S3Access { session_token: Some("old".into()), ..access.clone() }).await;
    for error in [&missing, &secret, &key, &token] {
        assert_eq!(error.disposition(), Disposition::Permanent, "{error:?}");
        let shown = format!("{error:?} {}", line(error));
        assert!(!shown.contains("guess") && !shown.contains(&access.secret_key), "{shown}");
    }
    let port = xvault_testkit::unused_port();
    let refused = staged(S3Access { endpoint: format!("http://127.0.0.1:{port}"), ..access.clone() }).await;
    assert!(line(&refused).contains("onnection refused"), "{}", line(&refused));
    assert_eq!(refused.disposition(), Disposition::Transient);
    let untrusted = staged(S3Access { endpoint: seaweed.tls_endpoint(), ..access.clone() }).await;
    assert!(matches!(untrusted, Error::Untrusted { .. }), "{untrusted:?}");
    let plain =
        staged(S3Access { endpoint: seaweed.tls_endpoint().replace("https", "http"), ..access }).await;
    assert!(line(&plain).contains("the right scheme"), "{}", line(&plain));
}

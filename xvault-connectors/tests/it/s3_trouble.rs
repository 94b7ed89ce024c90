//! A bucket that is down, slow, refusing or losing things while an object is written to it: what was written is whole or is not
//! there, and nothing is left of it.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use xvault_connectors::{Error, S3Store, Staging, Store, StoreWriter};
use xvault_core::error::chain;
use xvault_core::snapshot::ARTIFACT_NAME;
use xvault_core::{Dispose, Disposition};
use xvault_testkit::trees::Xorshift;
use xvault_testkit::{FaultProxy, S3Access, SeaweedFs, SmallFs};

use crate::s3_support::{SNAPSHOT, credential, options, settings, stage, store, through};

const SLOW_DOWN: &str = "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>";

/// Three parts.
fn content() -> Bytes {
    Xorshift::new(9).bytes((17 << 20) + 11).into()
}

/// A bucket with a proxy before it.
fn proxied() -> (S3Access, FaultProxy, S3Store) {
    let seaweed = SeaweedFs::shared();
    let (access, proxy) = (seaweed.new_bucket(), FaultProxy::start(seaweed.port()));
    let store = store(&through(proxy.port, &access));
    (access, proxy, store)
}

async fn assert_whole(access: &S3Access, staging: Box<dyn Staging>, content: &Bytes) {
    staging.commit("manifest.json", Bytes::from_static(b"{}")).await.unwrap();
    let key = format!("{SNAPSHOT}/{ARTIFACT_NAME}");
    let names = [ARTIFACT_NAME, "manifest.json"].map(|name| format!("some/place/{SNAPSHOT}/{name}"));
    assert_eq!(access.keys(""), names, "exactly one snapshot");
    assert!(access.uploads().is_empty(), "{:?}", access.uploads());
    assert!(store(access).read(&key, 0..content.len() as u64 + 1).await.unwrap() == content);
}

/// No snapshot, and nothing else after a sweep.
async fn assert_nothing(access: &S3Access) {
    let swept = store(access).sweep(Duration::ZERO).await.unwrap();
    assert_eq!(swept.failed, 0);
    // Times are of whole seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    store(access).sweep(Duration::ZERO).await.unwrap();
    assert!(
        access.keys("").is_empty() && access.uploads().is_empty(),
        "{:?} {:?}",
        access.keys(""),
        access.uploads()
    );
}

#[tokio::test]
async fn refusals_in_mid_upload_are_waited_out() {
    for (request, status) in [
        ("?uploads=", "500 Internal Server Error"),
        ("partNumber=2", "503 Service Unavailable"),
        ("<CompleteMultipartUpload>", "502 Bad Gateway"),
    ] {
        let (access, proxy, store) = proxied();
        proxy.answer_instead(request, 2, status, SLOW_DOWN);
        let staging = stage(&store, ARTIFACT_NAME, [content()]).await.unwrap();
        assert_eq!(proxy.answered(), 2, "{request}");
        assert_whole(&access, staging, &content()).await;
    }
}

/// The same bucket, whose parts wait in that directory.
fn spilling(access: &S3Access, scratch: &Path) -> S3Store {
    let options = options().in_memory(0).scratch_dir(scratch);
    S3Store::new(&settings(access), &credential(access), options).unwrap()
}

#[tokio::test]
async fn parts_that_wait_on_the_disk_are_sent_again_from_there() {
    let scratch = tempfile::tempdir().unwrap();
    let (access, proxy, _) = proxied();
    proxy.answer_instead("partNumber=2", 2, "503 Service Unavailable", SLOW_DOWN);
    proxy.lose_answer_to("partNumber=3");
    let store = spilling(&through(proxy.port, &access), scratch.path());
    let staging =
        stage(&store, ARTIFACT_NAME, [content().slice(..9 << 20), content().slice(9 << 20..)]).await;
    assert_eq!((proxy.answered(), proxy.answers_lost()), (2, 1));
    assert_whole(&access, staging.unwrap(), &content()).await;
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_disk_without_room_for_a_part_is_named_and_nothing_is_left() {
    let ((access, proxy, _), small) = (proxied(), SmallFs::mount(9 << 20));
    // The first part is there while the second is written.
    proxy.set_delay(Duration::from_millis(300));
    let store = spilling(&through(proxy.port, &access), small.path());
    let error = stage(&store, ARTIFACT_NAME, [content()]).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Transient);
    let told = chain(&error);
    assert!(told.contains(&format!("keep a part in {}", small.path().display())), "{told}");
    assert!(told.contains("No space left") && told.contains("name another directory"), "{told}");
    assert!(access.keys("").is_empty() && access.uploads().is_empty());
}

#[tokio::test]
async fn an_answer_that_is_lost_fails_nothing_and_doubles_nothing() {
    for request in ["partNumber=2", "<CompleteMultipartUpload>", "manifest.json"] {
        let (access, proxy, store) = proxied();
        proxy.lose_answer_to(request);
        let staging = stage(&store, ARTIFACT_NAME, [content()]).await.unwrap();
        assert_whole(&access, staging, &content()).await;
        assert_eq!(proxy.answers_lost(), 1, "{request}");
    }
}

/// SeaweedFS finishes an upload twice, as some do; others know it no more.
#[tokio::test]
async fn an_upload_that_is_gone_was_finished_if_its_object_is_there() {
    let gone = "<Error><Code>NoSuchUpload</Code></Error>";
    for (there, size) in [(true, content().len()), (false, content().len() - 1)] {
        let (access, proxy, store) = proxied();
        let staging = store.stage(SNAPSHOT).await.unwrap();
        let mut writer = staging.writer(ARTIFACT_NAME).await.unwrap();
        writer.write(content()).await.unwrap();
        let key = format!("some/place/{SNAPSHOT}/{ARTIFACT_NAME}");
        assert_eq!(access.in_bucket("PUT", &key, &content()[..size]).status, 200);
        // Of the first answer nobody knows whether the server did what it was asked for.
        proxy.answer_instead("<CompleteMultipartUpload>", 1, "504 Gateway Timeout", "");
        proxy.answer_instead("<CompleteMultipartUpload>", 1, "404 Not Found", gone);
        let written = writer.close().await;
        assert_eq!(proxy.answered(), 2);
        match written {
            Ok(()) => assert!(there),
            Err(error) => assert!(
                !there && chain(&error).contains("the unfinished upload is gone"),
                "{}",
                chain(&error)
            ),
        }
    }
}

#[tokio::test]
async fn a_connection_cut_in_mid_part_is_made_again() {
    let (access, proxy, store) = proxied();
    let proxy = Arc::new(proxy);
    let cutting = proxy.clone();
    let cut = std::thread::spawn(move || {
        while cutting.bytes_to_server() < 3 << 20 {
            std::thread::sleep(Duration::from_millis(1));
        }
        cutting.cut_now();
    });
    let staging = stage(&store, ARTIFACT_NAME, [content()]).await.unwrap();
    cut.join().unwrap();
    assert_whole(&access, staging, &content()).await;
}

#[tokio::test]
async fn refused_for_good_it_fails_at_once_and_leaves_nothing() {
    let (access, proxy, store) = proxied();
    let denied = "<Error><Code>AccessDenied</Code><Message>Not you.</Message></Error>";
    proxy.answer_instead("partNumber=2", 9, "403 Forbidden", denied);
    let error = stage(&store, ARTIFACT_NAME, [content()]).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }) && chain(&error).contains("Not you."), "{error:?}");
    assert_eq!(proxy.answered(), 1);
    assert!(access.keys("").is_empty() && access.uploads().is_empty());
}

/// What can't be named can't be made an object of.
#[tokio::test]
async fn a_part_without_a_tag_fails_the_upload_and_leaves_nothing() {
    let (access, proxy, store) = proxied();
    proxy.answer_instead("partNumber=2", 1, "200 OK", "");
    let error = stage(&store, ARTIFACT_NAME, [content()]).await.unwrap_err();
    assert!(chain(&error).contains("it gives no ETag for a part"), "{}", chain(&error));
    assert!(access.keys("").is_empty() && access.uploads().is_empty());
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_and_one_that_is_slow_is_not() {
    let (access, proxy, _) = proxied();
    let patience = options().retry_for(Duration::from_secs(2)).stall(Duration::from_millis(1500));
    let store =
        S3Store::new(&settings(&through(proxy.port, &access)), &credential(&access), patience).unwrap();
    let staging = store.stage(SNAPSHOT).await.unwrap();
    proxy.stall_after(0);
    let begin = Instant::now();
    let mut writer = staging.writer("meta.json").await.unwrap();
    writer.write(Bytes::from_static(b"{}")).await.unwrap();
    let error = writer.close().await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    assert_eq!(error.disposition(), Disposition::Transient);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    proxy.heal();
    proxy.cut_now();
    staging.abandon().await.unwrap();
    // Each answer takes longer than a stall may, in steps that do not.
    proxy.set_delay(Duration::from_millis(300));
    let staging = stage(&store, ARTIFACT_NAME, [content()]).await.unwrap();
    assert_whole(&access, staging, &content()).await;
}

/// One that sends a byte now and then, so that whoever waits for the rest of a restore waits for ever.
#[tokio::test]
async fn a_server_that_trickles_is_given_up_and_what_it_holds_is_read_once_it_does_not() {
    let (access, proxy, _) = proxied();
    let patience = options().retry_for(Duration::from_secs(2)).stall(Duration::from_secs(1));
    let store =
        S3Store::new(&settings(&through(proxy.port, &access)), &credential(&access), patience).unwrap();
    let staging = stage(&store, ARTIFACT_NAME, [content()]).await.unwrap();
    staging.commit("manifest.json", Bytes::from_static(b"{}")).await.unwrap();
    let key = format!("{SNAPSHOT}/{ARTIFACT_NAME}");
    // The heads of its answers pass, and the beginning of the object.
    proxy.trickle_after(64 << 10, Duration::from_millis(20));
    let whole = 0..content().len() as u64;
    let soon = tokio::time::timeout(Duration::from_secs(15), store.read(&key, whole.clone()));
    let error = soon.await.expect("a trickle is waited for").unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    assert_eq!(error.disposition(), Disposition::Transient);
    proxy.heal();
    assert!(store.read(&key, whole).await.unwrap() == content());
}

/// An upload that has sent a part.
async fn half(store: &S3Store) -> (Box<dyn Staging>, Box<dyn StoreWriter>) {
    let staging = store.stage(SNAPSHOT).await.unwrap();
    let mut writer = staging.writer(ARTIFACT_NAME).await.unwrap();
    writer.write(content().slice(..9 << 20)).await.unwrap();
    (staging, writer)
}

async fn rest(writer: &mut Box<dyn StoreWriter>) -> Result<(), Error> {
    for _ in 0..4 {
        writer.write(content().slice(9 << 20..)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_in_mid_upload_is_waited_out_and_one_that_lasts_leaves_nothing() {
    let seaweed = SeaweedFs::start();
    let access = seaweed.access();
    let store = store(&access);
    let (staging, mut writer) = half(&store).await;
    seaweed.kill();
    let (written, ()) = tokio::join!(
        async {
            writer.write(content().slice(9 << 20..)).await?;
            writer.close().await
        },
        async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            tokio::task::block_in_place(|| seaweed.restart());
        }
    );
    written.unwrap();
    assert_whole(&access, staging, &content()).await;
    store.delete_all(SNAPSHOT).await.unwrap();

    let brief = options().retry_for(Duration::from_secs(1));
    let store = S3Store::new(&settings(&access), &credential(&access), brief).unwrap();
    let (staging, mut writer) = half(&store).await;
    seaweed.kill();
    let error = rest(&mut writer).await.unwrap_err();
    assert!(matches!(error, Error::Connection { .. }), "{error:?}");
    for unheard in [writer.abort().await, staging.abandon().await] {
        assert!(matches!(unheard, Err(Error::Connection { .. })), "{unheard:?}");
    }
    seaweed.restart();
    assert_nothing(&access).await;
}

#[tokio::test]
async fn a_credential_revoked_in_mid_job_fails_it_for_good() {
    let seaweed = SeaweedFs::start();
    let (staging, mut writer) = half(&store(&seaweed.access())).await;
    let new = seaweed.revoke();
    let error = rest(&mut writer).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Permanent);
    assert!(
        chain(&error).contains("does not know this access key id, or knows it no more"),
        "{}",
        chain(&error)
    );
    drop((writer, staging));
    assert_nothing(&new).await;
}

#[tokio::test]
async fn a_bucket_that_disappears_in_mid_job_is_named() {
    let access = SeaweedFs::shared().new_bucket();
    let (_staging, mut writer) = half(&store(&access)).await;
    assert_eq!(access.in_bucket("DELETE", "", b"").status, 204);
    let failed = async {
        rest(&mut writer).await?;
        writer.close().await
    };
    let error = failed.await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Permanent, "{error:?}");
    assert!(
        chain(&error).contains("make the bucket") || chain(&error).contains("upload is gone"),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn what_is_lost_or_cut_behind_our_back_is_seen() {
    let access = SeaweedFs::shared().new_bucket();
    let staging = stage(&store(&access), ARTIFACT_NAME, [content()]).await.unwrap();
    let key = format!("some/place/{SNAPSHOT}/{ARTIFACT_NAME}");
    assert_eq!(access.in_bucket("PUT", &key, b"cut").status, 200);
    assert_eq!(staging.size(ARTIFACT_NAME).await.unwrap(), Some(3));
    assert_eq!(access.in_bucket("DELETE", &key, b"").status, 204);
    assert_eq!(staging.size(ARTIFACT_NAME).await.unwrap(), None);
    let lost = staging.read(ARTIFACT_NAME, 0..9).await.unwrap_err();
    assert!(matches!(&lost, Error::NotFound(what) if what.contains(ARTIFACT_NAME)), "{lost:?}");
    staging.abandon().await.unwrap();
}

/// A redirection could lead the answer out of a network that only this machine reaches.
#[tokio::test]
async fn nobody_is_sent_on_to_another_server() {
    let [asked, elsewhere] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    elsewhere.set_nonblocking(true).unwrap();
    let (port, place) = (asked.local_addr().unwrap().port(), elsewhere.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in asked.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            let head = "HTTP/1.1 307 Temporary Redirect\r\nconnection: close\r\ncontent-length: 0";
            write!(stream, "{head}\r\nlocation: http://{place}/\r\n\r\n").unwrap();
        }
    });
    let store = store(&through(port, &SeaweedFs::shared().new_bucket()));
    for asked in [store.size("x").await.map(drop), store.read("x", 0..1).await.map(drop)] {
        let error = asked.unwrap_err();
        assert_eq!(error.disposition(), Disposition::Permanent, "{error:?}");
    }
    assert_eq!(elsewhere.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

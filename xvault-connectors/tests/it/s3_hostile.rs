//! A server that a tenant has written to keep a worker busy, or to fill its memory: listings that never end. Whatever it says,
//! there is an end.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use xvault_connectors::{Error, S3Store, Store, snapshot};
use xvault_core::error::chain;
use xvault_core::{Dispose, Disposition, SnapshotKey};
use xvault_testkit::S3Access;

use crate::s3_support::{SNAPSHOT, credential, options, settings, store};

/// Every test ends within this, although its server does not.
const SOON: Duration = Duration::from_secs(60);
/// As many snapshots without a manifest are enough for one sweep.
const ENOUGH: u64 = 10_000;
const NOW: &str = "2099-01-01T00:00:00.000Z";
const LONG_AGO: &str = "2020-01-01T00:00:00.000Z";

/// An answer that means [`trickle`].
const TRICKLE: &[u8] = b"trickle";

/// What is answered to the request line, and to how manyth request.
type Script = dyn Fn(&str, u64) -> Vec<u8> + Send + Sync;

/// Answers as the script says, for ever.
struct Hostile {
    port: u16,
    sent: Arc<AtomicU64>,
}

impl Hostile {
    fn start(script: impl Fn(&str, u64) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, sent) = (listener.local_addr().unwrap().port(), Arc::<AtomicU64>::default());
        let (script, asked, counted): (Arc<Script>, _, _) =
            (Arc::new(script), Arc::<AtomicU64>::default(), sent.clone());
        std::thread::spawn(move || {
            for line in listener.incoming().map_while(Result::ok) {
                let (script, asked, sent) = (script.clone(), asked.clone(), counted.clone());
                std::thread::spawn(move || talk(line, &*script, &asked, &sent));
            }
        });
        Self { port, sent }
    }

    fn store(&self) -> S3Store {
        store(&self.access())
    }

    fn access(&self) -> S3Access {
        S3Access {
            endpoint: format!("http://127.0.0.1:{}", self.port),
            region: "us-east-1".into(),
            bucket: "bucket".into(),
            access_key: "AK".into(),
            secret_key: "secret".into(),
            session_token: None,
        }
    }

    /// One whose listings are given up soon that come to no entry.
    fn impatient(&self) -> S3Store {
        let options = options().for_an_entry(Duration::from_millis(300)).retry_for(Duration::ZERO);
        let access = self.access();
        S3Store::new(&settings(&access), &credential(&access), options).unwrap()
    }
}

fn talk(line: TcpStream, script: &Script, asked: &AtomicU64, sent: &AtomicU64) {
    let mut lines = BufReader::new(line.try_clone().unwrap());
    let mut line = line;
    loop {
        let mut request = String::new();
        if lines.read_line(&mut request).unwrap_or(0) == 0 {
            return;
        }
        let mut header = String::new();
        while lines.read_line(&mut header).unwrap_or(0) > 2 {
            header.clear();
        }
        let answer = script(&request, asked.fetch_add(1, Ordering::Relaxed));
        match answer.as_slice() {
            [] => return without_end(&mut line, sent),
            TRICKLE => return trickle(&mut line),
            _ => {}
        }
        if line.write_all(&answer).is_err() {
            return;
        }
    }
}

/// A page of a listing of which a little comes now and then.
fn trickle(line: &mut TcpStream) {
    drop(line.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n\r\n<ListBucketResult>"));
    while line.write_all(b"  ").is_ok() {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A page of a listing that goes on and on.
fn without_end(line: &mut TcpStream, sent: &AtomicU64) {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n\r\n<ListBucketResult>";
    let piece = object("tenants/t/sources/s/snapshots/x/a", NOW).repeat(1000);
    drop(line.write_all(head.as_bytes()));
    while line.write_all(piece.as_bytes()).is_ok() {
        sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n\r\n{body}")
        .into()
}

fn object(key: &str, written: &str) -> String {
    format!(
        "<Contents><Key>some/place/{key}</Key><LastModified>{written}</LastModified><ETag>\"e\"</ETag><Size>1</Size></Contents>"
    )
}

/// A page of a listing of objects, which promises another one.
fn objects(page: u64, count: u64, key: impl Fn(u64) -> String) -> Vec<u8> {
    let entries: String = (0..count).map(|n| object(&key(page * 1000 + n), NOW)).collect();
    answer(
        "200 OK",
        &format!(
            "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t{page}</NextContinuationToken>{entries}</ListBucketResult>"
        ),
    )
}

/// The same of unfinished uploads.
fn uploads(marker: &str, count: u64, key: impl Fn(u64) -> String, begun: &str) -> Vec<u8> {
    let upload = |n| {
        format!(
            "<Upload><Key>some/place/{}</Key><UploadId>u</UploadId><Initiated>{begun}</Initiated></Upload>",
            key(n)
        )
    };
    let entries: String = (0..count).map(upload).collect();
    answer(
        "200 OK",
        &format!(
            "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>{marker}</NextKeyMarker>
             <NextUploadIdMarker>u</NextUploadIdMarker>{entries}</ListMultipartUploadsResult>"
        ),
    )
}

/// An object of the snapshot with this number.
fn of_snapshot(number: u64) -> String {
    format!("tenants/t/sources/s/snapshots/x{number:09}/backup.tar.zst.enc")
}

fn key() -> SnapshotKey {
    let id = SNAPSHOT.rsplit('/').next().unwrap();
    SnapshotKey {
        tenant_id: "t".parse().unwrap(),
        source_id: "s".parse().unwrap(),
        snapshot_id: id.parse().unwrap(),
    }
}

fn is_upload_listing(request: &str) -> bool {
    request.contains("?uploads") || request.contains("&uploads")
}

/// What comes of it, which must be soon.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, work).await.expect("it never comes to an end")
}

fn assert_odd(error: &Error, words: &str) {
    assert!(chain(error).contains(words), "{}", chain(error));
    assert_eq!(error.disposition(), Disposition::Permanent);
}

#[tokio::test]
async fn a_listing_of_uploads_that_does_not_get_on_is_given_up() {
    let server = Hostile::start(|_, _| uploads("some/place/k", 1, of_snapshot, NOW));
    let error = soon(server.store().sweep(Duration::ZERO)).await.unwrap_err();
    assert_odd(&error, "its listing does not get on");
}

#[tokio::test]
async fn of_uploads_without_end_a_sweep_takes_what_is_enough() {
    let server = Hostile::start(|_, page| {
        uploads(&format!("some/place/k{page}"), 1000, |n| of_snapshot(page * 1000 + n), NOW)
    });
    let swept = soon(server.store().sweep(Duration::ZERO)).await.unwrap();
    assert_eq!((swept.in_use, swept.removed), (ENOUGH, 0));
}

#[tokio::test]
async fn of_objects_without_end_a_sweep_takes_what_is_enough() {
    let server = Hostile::start(|request, page| match is_upload_listing(request) {
        true => answer("200 OK", "<ListMultipartUploadsResult></ListMultipartUploadsResult>"),
        false => objects(page, 1000, of_snapshot),
    });
    let swept = soon(server.store().sweep(Duration::ZERO)).await.unwrap();
    assert_eq!((swept.in_use, swept.removed), (ENOUGH, 0));
}

#[tokio::test]
async fn an_upload_of_parts_without_end_is_given_up() {
    let server = Hostile::start(|request, count| match is_upload_listing(request) {
        true => uploads("some/place/k", 1, of_snapshot, LONG_AGO),
        false => {
            let part =
                format!("<Part><PartNumber>1</PartNumber><LastModified>{LONG_AGO}</LastModified></Part>");
            let body = format!(
                "<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>{count}</NextPartNumberMarker>{part}</ListPartsResult>"
            );
            answer("200 OK", &body)
        }
    });
    let error = soon(server.store().sweep(Duration::ZERO)).await.unwrap_err();
    assert_odd(&error, "more parts than there can be");
}

#[tokio::test]
async fn a_snapshot_of_objects_without_end_is_not_deleted_for_ever() {
    let server = Hostile::start(|request, page| match request.starts_with("GET") {
        true => objects(page, 1000, |n| format!("{SNAPSHOT}/o{n:09}")),
        false => answer("204 No Content", ""),
    });
    let error = soon(snapshot::delete(&server.store(), &key())).await.unwrap_err();
    assert_odd(&error, "lists more than 10000 objects");
}

#[tokio::test]
async fn versions_that_do_not_get_on_are_given_up() {
    let server = Hostile::start(|request, _| match request.starts_with("GET") {
        true => answer(
            "200 OK",
            "<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker></ListVersionsResult>",
        ),
        false => answer("204 No Content", ""),
    });
    let store = server.store().deleting_all_versions();
    assert_odd(&soon(store.delete("a/b")).await.unwrap_err(), "its listing does not get on");
    assert_odd(&soon(store.delete_all("a")).await.unwrap_err(), "its listing does not get on");
    let server = Hostile::start(|_, page| {
        answer(
            "200 OK",
            &format!(
                "<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k{page}</NextKeyMarker></ListVersionsResult>"
            ),
        )
    });
    let store = server.store().deleting_all_versions();
    assert_odd(&soon(store.delete("a/b")).await.unwrap_err(), "there are more than a snapshot can have");
}

/// Each page comes at once, holds nothing, and promises the next one.
#[tokio::test]
async fn pages_without_entries_are_not_asked_for_for_ever() {
    let begin = Instant::now();
    let server = Hostile::start(|_, page| objects(page, 0, of_snapshot));
    let store = server.impatient();
    let assert_late = |error: Error| {
        assert!(matches!(&error, Error::Timeout { what, .. } if what.starts_with("list ")), "{error:?}");
        assert_eq!(error.disposition(), Disposition::Transient);
    };
    assert_late(soon(store.stage(SNAPSHOT)).await.map(drop).unwrap_err());
    let listed = soon(store.list("tenants")).await.unwrap();
    assert_late(soon(listed.try_collect::<Vec<_>>()).await.unwrap_err());
    // The same behind entries that were told.
    let server = Hostile::start(|_, page| objects(page, if page == 0 { 1000 } else { 0 }, of_snapshot));
    let mut listed = soon(server.impatient().list("tenants")).await.unwrap();
    for number in 0..1000 {
        assert!(soon(listed.try_next()).await.unwrap().is_some(), "{number}");
    }
    assert_late(soon(listed.try_next()).await.unwrap_err());
    assert!(begin.elapsed() < SOON / 6, "{:?}", begin.elapsed());
}

/// No part of it is of use before its end, so all of it would have to be kept.
#[tokio::test]
async fn a_page_without_end_is_not_read_to_its_end() {
    let server = Hostile::start(|_, _| Vec::new());
    let error = soon(server.store().stage(SNAPSHOT)).await.map(drop).unwrap_err();
    assert_odd(&error, "the answer is longer than 4194304 bytes");
    let sent = server.sent.load(Ordering::Relaxed);
    assert!(sent < 64 << 20, "{sent} bytes were read");
    // The same of what we read ourselves.
    let error = soon(server.store().sweep(Duration::ZERO)).await.unwrap_err();
    assert_odd(&error, "the answer is longer than 16777216 bytes");
    let sent = server.sent.load(Ordering::Relaxed) - sent;
    assert!(sent < 128 << 20, "{sent} bytes were read");
}

/// A page of a listing that ends there, of keys as they are.
fn last_page(keys: &[&str]) -> Vec<u8> {
    let entries: String =
        keys.iter().map(|key| object(key, LONG_AGO).replacen("some/place/", "", 1)).collect();
    answer(
        "200 OK",
        &format!("<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"),
    )
}

#[tokio::test]
async fn a_key_that_was_not_asked_for_is_no_object_of_ours() {
    let mine = format!("some/place/{SNAPSHOT}/manifest.json");
    for other in
        ["x", "", "/", "some/place", &format!("other/place/{SNAPSHOT}/manifest.json"), "日本日本日本"]
    {
        let (page, told) =
            (last_page(&[&mine, other]), format!("it lists `{other}`, which was not asked for"));
        let server = Hostile::start(move |_, _| page.clone());
        let store = server.store();
        assert_odd(&soon(store.stage(SNAPSHOT)).await.map(drop).unwrap_err(), &told);
        let listed = soon(store.list("tenants")).await.unwrap();
        let listed: Result<Vec<_>, _> = soon(listed.try_collect()).await;
        assert_odd(&listed.unwrap_err(), &told);
        assert_odd(&soon(store.delete_all(SNAPSHOT)).await.unwrap_err(), &told);
    }
}

/// Uploads and versions of another prefix, some with names as ours have.
#[tokio::test]
async fn what_lies_outside_of_the_stores_prefix_is_left_alone() {
    let deleted = Arc::<AtomicU64>::default();
    let counted = deleted.clone();
    let server = Hostile::start(move |request, _| {
        counted.fetch_add(u64::from(request.starts_with("DELETE")), Ordering::Relaxed);
        let [outside, other] = [of_snapshot(1), format!("other/place/{}", of_snapshot(2))];
        let upload = |key: &str| {
            format!(
                "<Upload><Key>{key}</Key><UploadId>u</UploadId><Initiated>{LONG_AGO}</Initiated></Upload>"
            )
        };
        let version = |key: &str| format!("<Version><Key>{key}</Key><VersionId>v</VersionId></Version>");
        let each = |one: &dyn Fn(&str) -> String| one(&outside) + &one(&other);
        match (is_upload_listing(request), request.contains("versions=")) {
            (true, _) => answer("200 OK", &format!("<Uploads>{}</Uploads>", each(&upload))),
            (_, true) => answer("200 OK", &format!("<Versions>{}</Versions>", each(&version))),
            _ => last_page(&[]),
        }
    });
    let swept = soon(server.store().sweep(Duration::ZERO)).await.unwrap();
    assert_eq!((swept.removed, swept.in_use, swept.failed), (0, 0, 0));
    soon(server.store().deleting_all_versions().delete_all("tenants")).await.unwrap();
    assert_eq!(deleted.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_server_that_reads_all_where_a_part_is_asked_for_is_told() {
    let server = Hostile::start(|_, _| answer("200 OK", "0123456789"));
    let store = server.store();
    assert_eq!(soon(store.read("x", 0..4)).await.unwrap(), "0123");
    assert_odd(&soon(store.read("x", 4..8)).await.unwrap_err(), "it does not read in ranges");
}

#[tokio::test]
async fn a_listing_that_trickles_is_given_up() {
    let server = Hostile::start(|_, _| TRICKLE.to_vec());
    let options = options().retry_for(Duration::ZERO).stall(Duration::from_millis(500));
    let access = server.access();
    let store = S3Store::new(&settings(&access), &credential(&access), options).unwrap();
    let Err(error) = soon(store.stage(SNAPSHOT)).await else { panic!("it was read to its end") };
    assert!(matches!(error, Error::Timeout { .. }), "{}", chain(&error));
}

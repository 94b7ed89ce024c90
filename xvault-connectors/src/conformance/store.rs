//! The suite for stores.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;

use crate::{Error, Staging, Store};

/// Runs the suite against `store`, below the key prefix `tenants/conformance`, which it leaves empty.
///
/// # Errors
/// What the store fails at.
///
/// # Panics
/// When the store does something else than [`Store`] promises.
#[expect(clippy::panic, reason = "a test suite for stores")]
pub async fn store(store: &dyn Store) -> Result<(), Error> {
    commits_whole(store).await?;
    reads_ranges(store).await?;
    abandons_without_trace(store).await?;
    refuses_a_taken_prefix(store).await?;
    keeps_empty_objects(store).await?;
    stages_again(store).await?;
    deletes_twice(store).await?;
    store.sweep(Duration::ZERO).await?;
    let left = keys(store).await?;
    if !left.is_empty() {
        panic!("objects are left: {left:?}");
    }
    Ok(())
}

const ROOT: &str = "tenants/conformance";

fn prefix(name: &str) -> String {
    format!("{ROOT}/sources/s/snapshots/{name}")
}

async fn keys(store: &dyn Store) -> Result<Vec<String>, Error> {
    let mut keys: Vec<String> = store.list(ROOT).await?.try_collect().await?;
    keys.sort();
    Ok(keys)
}

async fn put(store: &dyn Store, name: &str, body: &[u8]) -> Result<(), Error> {
    let staging = store.stage(&prefix(name)).await?;
    let mut writer = staging.writer("body").await?;
    for chunk in body.chunks(7) {
        writer.write(Bytes::copy_from_slice(chunk)).await?;
    }
    writer.close().await?;
    assert_eq!(staging.size("body").await?, Some(body.len() as u64), "size of a staged object");
    assert_eq!(
        staging.read("body", 1..3).await?,
        body.get(1..3).unwrap_or_default(),
        "a staged object reads back"
    );
    staging.commit("last", Bytes::from_static(b"{}")).await
}

async fn commits_whole(store: &dyn Store) -> Result<(), Error> {
    assert_eq!(keys(store).await?, [""; 0], "a prefix that does not exist lists as empty");
    put(store, "a", b"0123456789").await?;
    put(store, "b", b"other").await?;
    let expected = ["a/body", "a/last", "b/body", "b/last"].map(prefix);
    assert_eq!(keys(store).await?, expected, "exactly the committed objects are listed");
    assert_eq!(store.read(&expected[1], 0..2).await?, "{}", "the last object");
    Ok(())
}

async fn reads_ranges(store: &dyn Store) -> Result<(), Error> {
    let key = prefix("a/body");
    assert_eq!(store.size(&key).await?, Some(10));
    assert_eq!(store.read(&key, 2..5).await?, "234");
    assert_eq!(store.read(&key, 0..10).await?, "0123456789");
    assert_eq!(store.read(&key, 8..100).await?, "89", "a range beyond the end is cut");
    assert_eq!(store.read(&key, 10..20).await?, "", "a range behind the end is empty");
    let missing = prefix("a/missing");
    assert_eq!(store.size(&missing).await?, None);
    assert!(matches!(store.read(&missing, 0..1).await, Err(Error::NotFound(_))), "a missing object is named");
    Ok(())
}

async fn abandons_without_trace(store: &dyn Store) -> Result<(), Error> {
    let before = keys(store).await?;
    let staging = store.stage(&prefix("c")).await?;
    let mut writer = staging.writer("body").await?;
    writer.write(Bytes::from_static(b"half")).await?;
    writer.abort().await?;
    let mut writer = staging.writer("other").await?;
    writer.write(Bytes::from_static(b"whole")).await?;
    writer.close().await?;
    staging.abandon().await?;
    assert_eq!(keys(store).await?, before, "an abandoned staging leaves nothing");
    Ok(())
}

async fn refuses_a_taken_prefix(store: &dyn Store) -> Result<(), Error> {
    assert!(store.stage(&prefix("a")).await.is_err(), "a snapshot is never written over");
    assert_eq!(store.read(&prefix("a/body"), 0..10).await?, "0123456789");
    Ok(())
}

async fn keeps_empty_objects(store: &dyn Store) -> Result<(), Error> {
    let staging = store.stage(&prefix("empty")).await?;
    staging.writer("body").await?.close().await?;
    staging.commit("last", Bytes::from_static(b"{}")).await?;
    assert_eq!(store.size(&prefix("empty/body")).await?, Some(0), "an object without a byte is an object");
    assert_eq!(store.read(&prefix("empty/body"), 0..1).await?, "");
    store.delete_all(&prefix("empty")).await
}

async fn stages_again(store: &dyn Store) -> Result<(), Error> {
    let given_up = store.stage_again(&prefix("copy")).await?;
    write(&*given_up, b"half").await?;
    given_up.abandon().await?;
    let staging = store.stage_again(&prefix("copy")).await?;
    write(&*staging, b"whole").await?;
    assert_eq!(staging.size("body").await?, Some(5), "what was left is written over");
    staging.commit("last", Bytes::from_static(b"{}")).await?;
    assert_eq!(store.read(&prefix("copy/body"), 0..10).await?, "whole");
    store.delete_all(&prefix("copy")).await
}

async fn write(staging: &dyn Staging, body: &'static [u8]) -> Result<(), Error> {
    let mut writer = staging.writer("body").await?;
    writer.write(Bytes::from_static(body)).await?;
    writer.close().await
}

async fn deletes_twice(store: &dyn Store) -> Result<(), Error> {
    for _ in 0..2 {
        store.delete(&prefix("a/last")).await?;
        store.delete_all(&prefix("a")).await?;
    }
    assert_eq!(keys(store).await?, ["b/body", "b/last"].map(prefix), "a neighbour stays");
    store.delete_all(&prefix("b")).await
}

//! How much memory an upload takes whose parts are long.

use std::io::Write as _;
use std::process::Command;

use bytes::Bytes;
use xvault_connectors::{S3Store, Store as _};
use xvault_core::snapshot::ARTIFACT_NAME;
use xvault_testkit::{S3Access, SeaweedFs};

use crate::s3_support::{SNAPSHOT, credential, options, settings};

const CHILD: &str = "XVAULT_TEST_UPLOADER";
const MIB: usize = 1 << 20;
/// Three of them would be 384 MiB.
const PART: u64 = 128 * MIB as u64;
const SIZE: usize = 400 * MIB;
/// What a backup may take at most.
const MOST_KIB: u64 = 128 * 1024;

/// In a process of its own, whose memory nothing else uses.
#[test]
fn an_upload_of_long_parts_takes_little_memory() {
    if let Some(access) = std::env::var_os(CHILD) {
        return upload(&access.into_string().unwrap());
    }
    let (access, scratch) = (SeaweedFs::shared().new_bucket(), tempfile::tempdir().unwrap());
    let parts = [&access.endpoint, &access.bucket, &access.region, &access.access_key, &access.secret_key];
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "s3_memory::an_upload_of_long_parts_takes_little_memory", "--nocapture"]);
    child.env(CHILD, parts.map(String::as_str).join(" ")).env("TMPDIR", scratch.path());
    let ran = child.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{said} {}", String::from_utf8_lossy(&ran.stderr));
    let peak: u64 = said.split("peak KiB: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
    assert!(peak < MOST_KIB, "{peak} KiB");
    assert!(access.uploads().is_empty() && access.keys("").len() == 1);
}

#[tokio::main(flavor = "current_thread")]
async fn upload(access: &str) {
    let [endpoint, bucket, region, access_key, secret_key] =
        access.split(' ').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap();
    let access = S3Access { endpoint, bucket, region, access_key, secret_key, session_token: None };
    let store = S3Store::new(&settings(&access), &credential(&access), options()).unwrap();
    let staging = store.stage(SNAPSHOT).await.unwrap();
    let mut writer = staging.writer(ARTIFACT_NAME).await.unwrap();
    writer.expect(9_500 * PART);
    for number in 0..SIZE / MIB {
        let chunk = vec![u8::try_from(number % 251).unwrap(); MIB];
        writer.write(Bytes::from(chunk)).await.unwrap();
    }
    writer.close().await.unwrap();
    std::io::stdout().write_all(format!("\npeak KiB: {}\n", peak()).as_bytes()).unwrap();
    std::mem::forget(staging);
}

/// `VmHWM` of this process.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

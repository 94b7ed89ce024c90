//! A store in a bucket: `--store s3://…` with every command, as an administrator types it.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xvault_testkit::{FaultProxy, S3Access, SeaweedFs, TreeOptions, assert_same_tree, tools, trees};

use crate::world::{World, everything, inside, restored, run, text};

#[test]
fn a_tree_of_oddities_comes_back_from_a_bucket_by_xvault_and_by_hand() {
    let bucket = SeaweedFs::shared().new_bucket();
    let world = World::in_bucket(bucket.clone());
    let tree = world.tree(trees::oddities);
    let manifest = world.backup(text(&tree), &[]);
    assert_eq!(
        (&manifest["completeness"], &manifest["read_back"]["mode"]),
        (&json!("whole"), &json!("sample"))
    );
    let exact = TreeOptions { owner: true, ..TreeOptions::default() };
    let out = world.path("out");
    world.ok(&["restore", "latest", "--to", text(&out)]);
    assert_same_tree(&tree, &restored(&out, &tree), &exact);

    // Another client fetches what other tools open.
    let fetched = world.path("fetched");
    let place = format!("s3:{}/place", bucket.bucket);
    let _ = tools::run(&mut bucket.rclone(&["copy", &place, text(&fetched)]));
    let ids = ["tenant_id", "source_id", "snapshot_id"].map(|id| manifest[id].as_str().unwrap().to_owned());
    let [tenant, source, snapshot] = ids;
    let dir = fetched.join(format!("tenants/{tenant}/sources/{source}/snapshots/{snapshot}"));
    let sum = tools::run(tools::command("sha256sum", ["-b"]).arg(dir.join("backup.tar.zst.enc")));
    assert!(String::from_utf8(sum).unwrap().starts_with(manifest["sha256"].as_str().unwrap()));
    let by_hand = world.path("by-hand");
    tools::age_decrypt_untar(&dir.join("backup.tar.zst.enc"), &world.identity, &by_hand);
    assert_same_tree(&tree, &restored(&by_hand, &tree), &exact);
}

#[test]
fn every_command_works_on_a_bucket() {
    let bucket = SeaweedFs::shared().new_bucket();
    let world = World::in_bucket(bucket.clone());
    let tree = world.tree(|dir| trees::small_files(dir, 20, 1000));
    fs::write(tree.join("hello"), "hello").unwrap();
    let ran = world.backup_ran(text(&tree), &["--read-back", "full"]);
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    let (manifest, locator) = (&told["snapshot"], &told["locator"]);
    assert_eq!(manifest["read_back"]["mode"], "full");
    assert_eq!((&locator["storage_backend"], &locator["bucket"]), (&json!("s3"), &json!(bucket.bucket)));
    assert!(locator["object_key"].as_str().unwrap().starts_with("place/tenants/local/"), "{locator}");
    assert!(locator["etag"].as_str().is_some_and(|etag| !etag.is_empty()), "{locator}");
    let first = manifest["snapshot_id"].as_str().unwrap();
    assert_eq!(world.ok(&["cat", first, &inside(&tree.join("hello"))]).stdout, "hello");
    assert!(world.ok(&["ls", "latest"]).stdout.lines().count() > 20);
    let second = world.backup(text(&tree), &[])["snapshot_id"].as_str().unwrap().to_owned();
    assert_eq!(world.ok(&["snapshots", "--json"]).stdout.lines().count(), 2);
    world.ok(&["verify", "--all"]);
    world.ok(&["verify", "latest", "--identity", text(&world.identity)]);
    world.ok(&["forget", "--keep-last", "1"]);
    assert!(!world.ok(&["snapshots"]).stdout.contains(first));
    world.ok(&["forget", &second]);
    assert!(bucket.keys("").is_empty() && bucket.uploads().is_empty(), "{:?}", bucket.keys(""));
}

#[test]
fn flags_name_another_server_than_the_variables() {
    let seaweed = SeaweedFs::shared();
    let bucket = seaweed.new_bucket();
    let world = World::in_bucket(S3Access { endpoint: "http://127.0.0.1:1".into(), ..bucket });
    let endpoint = seaweed.tls_endpoint();
    let args = [
        "snapshots",
        "--s3-endpoint",
        &endpoint,
        "--s3-addressing",
        "virtual-host",
        "--s3-region",
        "us-east-1",
    ];
    let mut command = world.command(&args);
    let ran = run(command.env("AWS_CA_BUNDLE", seaweed.certificate()));
    assert_eq!(ran.code, 0, "{ran:?}");
    let untrusted = world.run(&args);
    assert!(untrusted.code == 1 && untrusted.stderr.contains("CA certificate"), "{untrusted:?}");
}

type Change<'a> = &'a dyn Fn(&mut Command) -> &mut Command;

#[test]
fn each_thing_that_is_wrong_with_a_bucket_is_named() {
    let bucket = SeaweedFs::shared().new_bucket();
    let world = World::in_bucket(bucket.clone());
    let tree = world.tree(|dir| trees::small_files(dir, 3, 10));
    let told = |change: Change<'_>, wanted: &str| {
        let mut command = world.command(&["backup", text(&tree), "--recipient", &world.recipient]);
        change(&mut command);
        let ran = run(&mut command);
        assert!(ran.code == 1 && ran.stderr.contains(wanted), "{wanted}: {ran:?}");
        assert!(!everything(&ran).contains(&bucket.secret_key), "{ran:?}");
    };
    told(&|c| c.env("XVAULT_STORE", "s3://no-such-bucket"), "make the bucket, or correct its name");
    told(&|c| c.env("XVAULT_STORE", "s3://"), "s3:// lacks its bucket");
    told(&|c| c.env("XVAULT_STORE", "s3://k:s@bucket"), "takes no credential");
    told(&|c| c.env("XVAULT_STORE", "gs://bucket"), "gs:// is no kind of store");
    told(&|c| c.env("XVAULT_STORE", "s3://bucket/a b"), "setting `prefix`");
    told(&|c| c.env("AWS_ACCESS_KEY_ID", "AKNOBODY"), "does not know this access key id");
    told(&|c| c.env("AWS_SECRET_ACCESS_KEY", "guess"), "the secret access key is wrong");
    told(&|c| c.env_remove("AWS_SECRET_ACCESS_KEY"), "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
    told(&|c| c.env("AWS_ENDPOINT_URL_S3", "s3.example"), "setting `endpoint`");
    told(&|c| c.env("AWS_REGION", "a b"), "setting `region`");
    told(&|c| c.env("AWS_CA_BUNDLE", "/no/such/file"), "read AWS_CA_BUNDLE /no/such/file");
    told(&|c| c.env("AWS_CA_BUNDLE", text(&world.identity)), "setting `ca_certificate`");
    let port = xvault_testkit::unused_port();
    let nobody = format!("http://127.0.0.1:{port}");
    told(&|c| c.env("AWS_ENDPOINT_URL_S3", &nobody), "onnection refused");
    told(&|c| c.env("XVAULT_STORE", "store").arg("--s3-region=x"), "--s3-region is for stores in buckets");
    assert!(bucket.keys("").is_empty(), "{:?}", bucket.keys(""));
}

#[test]
fn damage_in_a_bucket_is_found_and_named() {
    let bucket = SeaweedFs::shared().new_bucket();
    let world = World::in_bucket(bucket.clone());
    let tree = world.tree(|dir| trees::small_files(dir, 10, 100_000));
    world.backup(text(&tree), &[]);
    let key = bucket.keys("").into_iter().find(|key| key.ends_with("backup.tar.zst.enc")).unwrap();
    let whole = bucket.in_bucket("GET", &key, b"").body;
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let out = world.path("out");
    for (damaged, told) in [(&whole[..whole.len() - 1], "bytes instead of"), (&flipped, "is damaged")] {
        assert_eq!(bucket.in_bucket("PUT", &key, damaged).status, 200);
        let ran = world.run(&["verify", "latest"]);
        assert!(ran.code == 1 && everything(&ran).contains(told), "{told}: {ran:?}");
        assert_eq!(world.run(&["restore", "latest", "--to", text(&out)]).code, 1);
    }
    assert_eq!(bucket.in_bucket("DELETE", &key, b"").status, 204);
    let ran = world.run(&["verify", "latest"]);
    assert!(ran.code == 1 && everything(&ran).contains("it is missing"), "{ran:?}");
}

/// A backup into `bucket` that hangs in mid-upload.
fn hanging(world: &World, proxy: &FaultProxy, bucket: &S3Access) -> Child {
    let tree =
        world.tree(|dir| fs::write(dir.join("large"), trees::Xorshift::new(4).bytes(40 << 20)).unwrap());
    let args = ["backup", text(&tree), "--recipient", &world.recipient, "--bwlimit", "20MiB"];
    let mut command = world.command(&args);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until(|| !bucket.uploads().is_empty());
    proxy.stall_after(0);
    child
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "it takes too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_backup_killed_in_mid_upload_is_no_snapshot_and_one_interrupted_leaves_nothing() {
    let seaweed = SeaweedFs::shared();
    let (bucket, proxy) = (seaweed.new_bucket(), FaultProxy::start(seaweed.port()));
    let endpoint = format!("http://127.0.0.1:{}", proxy.port);
    let world = World::in_bucket(S3Access { endpoint, ..bucket.clone() });
    let mut killed = hanging(&world, &proxy, &bucket);
    killed.kill().unwrap();
    killed.wait().unwrap();
    proxy.heal();
    assert_eq!(bucket.uploads().len(), 1, "for the sweep, a day later");
    assert_eq!(world.ok(&["snapshots", "--json"]).stdout, "");

    for upload in bucket.uploads() {
        assert!(upload.starts_with("place/tenants/local/"), "{upload}");
    }
    let (bucket, proxy) = (seaweed.new_bucket(), FaultProxy::start(seaweed.port()));
    let endpoint = format!("http://127.0.0.1:{}", proxy.port);
    let world = World::in_bucket(S3Access { endpoint, ..bucket.clone() });
    let mut interrupted = hanging(&world, &proxy, &bucket);
    let pid = interrupted.id().to_string();
    let _ = tools::run(&mut tools::command("kill", ["-INT", &pid]));
    proxy.heal();
    assert_eq!(interrupted.wait().unwrap().code(), Some(130));
    assert!(
        bucket.keys("").is_empty() && bucket.uploads().is_empty(),
        "{:?} {:?}",
        bucket.keys(""),
        bucket.uploads()
    );
}

#[test]
fn one_small_file_takes_few_requests_and_few_bytes() {
    let seaweed = SeaweedFs::shared();
    let (bucket, proxy) = (seaweed.new_bucket(), FaultProxy::start(seaweed.port()));
    let endpoint = format!("http://127.0.0.1:{}", proxy.port);
    let world = World::in_bucket(S3Access { endpoint, ..bucket });
    let tree = world.tree(|dir| {
        fs::create_dir(dir.join("a")).unwrap();
        trees::small_files(&dir.join("a"), 300, 1000);
        fs::write(dir.join("b"), trees::Xorshift::new(3).bytes(50 << 20)).unwrap();
        fs::write(dir.join("small"), "hello").unwrap();
        fs::write(dir.join("y"), trees::Xorshift::new(4).bytes(10 << 20)).unwrap();
    });
    let manifest = world.backup(text(&tree), &["--read-back", "off"]);
    let (requests, bytes) = (proxy.requests(), proxy.bytes_to_client());
    let id = manifest["snapshot_id"].as_str().unwrap();
    assert_eq!(world.ok(&["cat", id, &inside(&tree.join("small"))]).stdout, "hello");
    let (requests, bytes) = (proxy.requests() - requests, proxy.bytes_to_client() - bytes);
    // Whatever the length of the artifact: a frame of 4 MiB, the index, and what is fetched ahead.
    assert!(requests <= 10 && bytes <= 12 << 20, "{requests} requests, {bytes} bytes");
    println!("{requests} requests, {bytes} bytes");
}

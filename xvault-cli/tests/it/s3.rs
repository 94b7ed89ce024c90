//! A store in a bucket: `--store s3://…` with every command, as an administrator types it.

use std::fs;

use serde_json::{Value, json};
use xvault_testkit::{S3Access, SeaweedFs, TreeOptions, assert_same_tree, tools, trees};

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

#[test]
fn each_thing_that_is_wrong_with_a_bucket_is_named() {
    let bucket = SeaweedFs::shared().new_bucket();
    let world = World::in_bucket(bucket.clone());
    let tree = world.tree(|dir| trees::small_files(dir, 3, 10));
    let told = |change: &dyn Fn(&mut std::process::Command), wanted: &str| {
        let mut command = world.command(&["backup", text(&tree), "--recipient", &world.recipient]);
        change(&mut command);
        let ran = run(&mut command);
        assert!(ran.code == 1 && ran.stderr.contains(wanted), "{wanted}: {ran:?}");
        assert!(!everything(&ran).contains(&bucket.secret_key), "{ran:?}");
    };
    told(&|c| drop(c.env("XVAULT_STORE", "s3://no-such-bucket")), "make the bucket, or correct its name");
    told(&|c| drop(c.env("XVAULT_STORE", "s3://")), "s3:// lacks its bucket");
    told(&|c| drop(c.env("XVAULT_STORE", "s3://k:s@bucket")), "takes no credential");
    told(&|c| drop(c.env("XVAULT_STORE", "gs://bucket")), "gs:// is no kind of store");
    told(&|c| drop(c.env("XVAULT_STORE", "s3://bucket/a b")), "setting `prefix`");
    told(&|c| drop(c.env("AWS_ACCESS_KEY_ID", "AKNOBODY")), "does not know this access key id");
    told(&|c| drop(c.env("AWS_SECRET_ACCESS_KEY", "guess")), "the secret access key is wrong");
    told(&|c| drop(c.env_remove("AWS_SECRET_ACCESS_KEY")), "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
    told(&|c| drop(c.env("AWS_ENDPOINT_URL_S3", "s3.example")), "setting `endpoint`");
    told(&|c| drop(c.env("AWS_REGION", "a b")), "setting `region`");
    told(&|c| drop(c.env("AWS_CA_BUNDLE", "/no/such/file")), "read AWS_CA_BUNDLE /no/such/file");
    told(&|c| drop(c.env("AWS_CA_BUNDLE", text(&world.identity))), "setting `ca_certificate`");
    let port = xvault_testkit::unused_port();
    let nobody = format!("http://127.0.0.1:{port}");
    told(&|c| drop(c.env("AWS_ENDPOINT_URL_S3", &nobody)), "onnection refused");
    told(
        &|c| drop(c.env("XVAULT_STORE", "store").arg("--s3-region=x")),
        "--s3-region is for stores in buckets",
    );
    assert!(bucket.keys("").is_empty(), "{:?}", bucket.keys(""));
}

//! A snapshot forged by somebody who knows the recipient: properly encrypted, with a matching manifest, and wrong inside.

use std::fs;
use std::path::Path;

use xvault::core::Manifest;
use xvault::core::snapshot::{FileDigest, INDEX_NAME, MANIFEST_NAME};
use xvault_testkit::tools;

use crate::world::{World, text};

/// Rewrites the plain index with `change`, and the manifest to match.
fn forge(world: &World, dir: &Path, change: impl Fn(&str) -> String) {
    let index = dir.join(INDEX_NAME);
    let (packed, plain) = (world.path("index.zst"), world.path("index"));
    let decrypted = tools::run(tools::command("age", ["-d", "-i", text(&world.identity)]).arg(&index));
    fs::write(&packed, decrypted).unwrap();
    let lines = tools::run(tools::command("zstd", ["-dc"]).arg(&packed));
    fs::write(&plain, change(std::str::from_utf8(&lines).unwrap())).unwrap();
    let _ = tools::run(tools::command("zstd", ["-q", "-f", "-o", text(&packed)]).arg(&plain));
    let _ = tools::run(tools::command("age", ["-r", &world.recipient, "-o", text(&index)]).arg(&packed));

    let sum = String::from_utf8(tools::run(tools::command("sha256sum", ["-b"]).arg(&index))).unwrap();
    let manifest = dir.join(MANIFEST_NAME);
    let mut forged = Manifest::from_json(&fs::read(&manifest).unwrap()).unwrap();
    forged.index = FileDigest {
        size_bytes: fs::metadata(&index).unwrap().len(),
        sha256: sum.split(' ').next().unwrap().to_owned(),
    };
    fs::write(&manifest, forged.to_json().unwrap()).unwrap();
}

#[test]
fn a_forged_index_is_refused_and_writes_nothing_outside() {
    let forgeries: [(&str, &str, &str); 4] = [
        ("a way up", "\"path\":\"tmp/", "\"path\":\"../"),
        ("an absolute path", "\"path\":\"tmp/", "\"path\":\"/tmp/"),
        ("another kind", "\"kind\":\"file\"", "\"kind\":\"device\""),
        ("another size", "\"size\":9,", "\"size\":9000000,"),
    ];
    for (what, from, to) in forgeries {
        let world = World::new();
        let tree = world.tree(|dir| fs::write(dir.join("evil"), "contents!").unwrap());
        let _ = world.backup(text(&tree), &[]);
        let dir = world.only_snapshot();
        forge(&world, &dir, |lines| {
            assert!(lines.contains(from), "{what}: {lines}");
            lines.replace(from, to)
        });
        fs::remove_file(tree.join("evil")).unwrap();
        let out = world.path("out/deep");
        let ran = world.run(&["restore", "latest", "--to", text(&out)]);
        assert_eq!(ran.code, 1, "{what}: {ran:?}");
        assert!(ran.stderr.contains(INDEX_NAME) || ran.stderr.contains("evil"), "{what}: {ran:?}");
        let found = tools::run(tools::command("find", [&world.path("")]).args(["-name", "evil"]));
        assert_eq!(String::from_utf8(found).unwrap(), "", "{what}: something was written");
        assert_eq!(world.run(&["verify", "latest"]).code, 1, "{what}");
    }
}

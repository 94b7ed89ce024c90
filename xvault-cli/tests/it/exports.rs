//! `xvault restore -o`: one archive file, whole or not there.

use std::fs;
use std::process::Command;

use xvault_testkit::{TreeOptions, assert_same_tree, tools};

use crate::world::{World, restored, text};

fn world() -> (World, std::path::PathBuf) {
    let world = World::new();
    let tree = world.tree(|dir| {
        fs::create_dir(dir.join("sub")).unwrap();
        fs::write(dir.join("sub/a:b.txt"), "colon").unwrap();
        fs::write(dir.join("plain"), vec![7; 300_000]).unwrap();
    });
    world.backup(text(&tree), &[]);
    (world, tree)
}

#[test]
fn each_format_is_opened_by_its_own_tool() {
    let (world, tree) = world();
    for (format, unpack) in [("tar", "tar -xpf"), ("tar.zst", "tar --zstd -xpf")] {
        let (file, out) = (world.path(&format!("all.{format}")), world.path(&format!("out-{format}")));
        world.ok(&["restore", "latest", "-o", text(&file)]);
        fs::create_dir(&out).unwrap();
        let unpack = format!("{unpack} {} -C {}", text(&file), text(&out));
        let _ = tools::run(Command::new("sh").args(["-c", &unpack]));
        assert_same_tree(&tree, &restored(&out, &tree), &TreeOptions::default());
    }
    let told = world.ok(&["restore", "latest", "-o", "all.zip"]);
    assert!(told.stdout.contains("1 have other names there"), "{told:?}");
    let _ = tools::run(
        Command::new("unzip").args(["-q", "all.zip", "-d", "unzipped"]).current_dir(world.path("")),
    );
    let out = restored(&world.path("unzipped"), &tree);
    assert_eq!(fs::read(out.join("sub/a%3Ab.txt")).unwrap(), b"colon");
    let report = fs::read_to_string(world.path("unzipped/xvault-renamed.jsonl")).unwrap();
    assert!(report.contains("sub/a%3Ab.txt") && report.contains("sub/a:b.txt"), "{report}");
}

#[test]
fn standard_output_holds_the_archive_and_nothing_else() {
    let (world, tree) = world();
    let part = text(&tree.join("sub")).to_owned();
    let ran = world.ok(&["restore", "latest", &part, "-o", "-", "--format", "tar", "--json"]);
    assert!(ran.bytes.ends_with(&[0; 1024]) && ran.bytes.len() % 512 == 0);
    let told: serde_json::Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(told["bytes"], ran.bytes.len());
    let usage = world.run(&["restore", "latest", "-o", "-"]);
    assert!(usage.code == 2 && usage.stderr.contains("--format"), "{usage:?}");
}

#[test]
fn an_export_that_fails_leaves_no_file_and_spares_what_is_there() {
    let (world, _) = world();
    fs::write(world.path("all.tar"), "mine").unwrap();
    let exists = world.run(&["restore", "latest", "-o", "all.tar"]);
    assert!(exists.code == 1 && exists.stderr.contains("--overwrite always"), "{exists:?}");
    assert_eq!(fs::read(world.path("all.tar")).unwrap(), b"mine");
    world.ok(&["restore", "latest", "-o", "all.tar", "--overwrite", "always"]);
    let none = world.run(&["restore", "latest", "no/such/path", "-o", "none.zip"]);
    assert!(none.code == 1 && none.stderr.contains("no entry"), "{none:?}");
    let wrong = world.run(&["restore", "latest", "-o", "all.rar"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("--format"), "{wrong:?}");
    let nowhere = world.run(&["restore", "latest"]);
    assert_eq!(nowhere.code, 2, "{nowhere:?}");
    let left: Vec<_> =
        fs::read_dir(world.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("none")), "{left:?}");
}

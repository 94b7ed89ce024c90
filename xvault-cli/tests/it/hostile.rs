//! Snapshots forged by somebody who knows the recipient: properly encrypted, committed, with a manifest that
//! agrees, and wrong inside.

use std::fs;

use serde_json::json;
use xvault::core::snapshot::INDEX_NAME;
use xvault_testkit::SmallFs;
use xvault_testkit::forge::{self, Crafted, Forged, Zeros};

use crate::world::{Ran, World, text};

/// Memory for whatever is forged: a few of the largest frames that the format has.
const KIB: u32 = 256 << 10;

/// What a user does with a snapshot.
const COMMANDS: [&str; 4] = ["restore", "verify", "cat", "ls"];

/// A forged snapshot in a store, and beside the target of its restore a file that must stay as it is.
struct Trap {
    world: World,
}

impl Trap {
    fn set(forged: &Forged) -> Self {
        let world = World::new();
        forged.commit(&world.store, &world.recipient.parse().unwrap());
        fs::create_dir(world.path("box")).unwrap();
        fs::write(world.path("box/victim"), "untouched").unwrap();
        Self { world }
    }

    /// Runs one of [`COMMANDS`]; `path` is for `cat`.
    fn spring(&self, command: &str, path: &str) -> Ran {
        let (target, identity) = (self.world.path("box/target"), text(&self.world.identity));
        let ran = match command {
            "restore" => self.confined(&["restore", "latest", "--to", text(&target)]),
            "verify" => self.confined(&["verify", "latest", "--identity", identity]),
            "cat" => self.confined(&["cat", "latest", path]),
            _ => self.confined(&["ls", "latest", "--json"]),
        };
        self.assert_nothing_outside(command);
        ran
    }

    fn confined(&self, args: &[&str]) -> Ran {
        self.world.confined(KIB, args)
    }

    fn assert_nothing_outside(&self, command: &str) {
        assert_eq!(fs::read_to_string(self.world.path("box/victim")).unwrap(), "untouched", "{command}");
        let names = |dir: &str| {
            let entries = fs::read_dir(self.world.path(dir)).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert!(names("box").iter().all(|name| name == "victim" || name == "target"), "{command}");
        assert_eq!(names(""), ["box", "identity.txt", "store"], "{command}");
        assert_eq!(names("store"), ["tenants"], "{command}");
    }
}

/// What is wrong, the file that `cat` asks for, and what is told; the first `told` of [`COMMANDS`] notice, and the others
/// touch nothing that is wrong and succeed.
struct Case<'a> {
    forged: Forged,
    path: &'a str,
    told: usize,
    says: &'a [&'a str],
}

impl Case<'_> {
    fn check(&self) {
        let trap = Trap::set(&self.forged);
        for (number, command) in COMMANDS.into_iter().enumerate() {
            let ran = trap.spring(command, self.path);
            if number >= self.told {
                assert_eq!(ran.code, 0, "{command}: {ran:?}");
                continue;
            }
            assert_eq!(ran.code, 1, "{command} of {:?}: {ran:?}", self.says);
            let named = self.says.iter().any(|says| ran.stderr.contains(says));
            assert!(named, "{command} does not say one of {:?}: {ran:?}", self.says);
        }
    }
}

#[test]
fn the_forgers_honest_work_passes() {
    let mut honest = Crafted::default();
    honest.directory("d").file("d/a", b"hello").symlink("l", "/etc/passwd").hardlink("h", "d/a");
    let trap = Trap::set(&honest.finish());
    for command in COMMANDS {
        let ran = trap.spring(command, "h");
        assert_eq!(ran.code, 0, "{command}: {ran:?}");
        assert!(command != "cat" || ran.stdout == "hello", "{ran:?}");
    }
    assert_eq!(fs::read_to_string(trap.world.path("box/target/h")).unwrap(), "hello");
}

#[test]
fn paths_that_lead_outside_are_refused_by_all() {
    for path in ["../victim", "d/../../victim", "/tmp/xvault-victim"] {
        let unsafe_path = format!("unsafe path `{path}`");
        let forged = Crafted::default().file(path, b"evil").finish();
        Case { forged, path: "harmless", told: 4, says: &[&unsafe_path] }.check();
        // The index, which is all that a listing reads, calls it something harmless.
        let forged = Crafted::default().file_as(path, "harmless", b"evil").finish();
        Case { forged, path: "harmless", told: 3, says: &["`harmless`"] }.check();
        assert!(!fs::exists("/tmp/xvault-victim").unwrap());
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    for target in ["..", "/tmp", "."] {
        let forged = Crafted::default().symlink("d", target).file("d/xvault-evil", b"x").finish();
        let says = ["`d` in the target directory is in the way", "`d/xvault-evil` lies below"];
        // `cat` gives the bytes, wherever they should have gone.
        Case { forged, path: "d/xvault-evil", told: 2, says: &says }.check();
        assert!(!fs::exists("/tmp/xvault-evil").unwrap());
    }
}

#[test]
fn hard_links_that_lead_outside_are_refused() {
    let forged = Crafted::default().hardlink("h", "../victim").finish();
    Case { forged, path: "h", told: 4, says: &["unsafe path `../victim`"] }.check();
    let forged = Crafted::default().symlink("l", "../victim").hardlink("h", "l").finish();
    Case { forged, path: "h", told: 3, says: &["`h` is a hard link"] }.check();
    let forged = Crafted::default().hardlink("h", "later").file("later", b"x").finish();
    Case { forged, path: "h", told: 3, says: &["`h` is a hard link"] }.check();
}

#[test]
fn device_nodes_are_refused() {
    for flag in [b'3', b'4', b'6'] {
        let forged = Crafted::default().device_as_file("node", flag).finish();
        Case { forged, path: "node", told: 3, says: &["`node`"] }.check();
        let mut crafted = Crafted::default();
        let forged = crafted.tar("node", flag, b"", "").line("node", 1, &json!({"kind": "device"})).finish();
        Case { forged, path: "node", told: 4, says: &[INDEX_NAME] }.check();
    }
}

#[test]
fn a_name_that_comes_twice_is_refused() {
    let twice = ["`a` appears twice"];
    let forged = Crafted::default().file("a", b"one").file("a", b"two").finish();
    Case { forged, path: "a", told: 3, says: &twice }.check();
    let forged = Crafted::default().symlink("a", "../victim").file("a", b"through").finish();
    Case { forged, path: "a", told: 3, says: &twice }.check();
}

#[test]
fn sizes_and_hashes_that_lie_are_refused() {
    let lying = |size: u64| {
        let mut crafted = Crafted::default();
        let blake3 = "00".repeat(32);
        let rest = json!({"kind": "file", "size": size, "blake3": blake3});
        (crafted.totals.files, crafted.totals.bytes) = (1, size);
        crafted.tar("f", b'0', b"hello", "").line("f", 2, &rest).finish()
    };
    for size in [4, 5, 6] {
        Case { forged: lying(size), path: "f", told: 3, says: &["`f`"] }.check();
    }
    Case { forged: lying(9_000_000), path: "f", told: 4, says: &[INDEX_NAME] }.check();
}

#[test]
fn a_tebibyte_in_a_few_kib_is_refused_before_a_byte_of_it_is_written() {
    let forged = Zeros::new(1 << 40).promised();
    assert!(forged.zstd.len() < 20_000, "{}", forged.zstd.len());
    let trap = Trap::set(&forged);
    for command in ["restore", "verify", "cat"] {
        let ran = trap.spring(command, "zeros");
        assert_eq!(ran.code, 1, "{command}: {ran:?}");
        assert!(ran.stderr.contains("the length of its zstd stream"), "{command}: {ran:?}");
        assert_eq!(ran.bytes.len(), 0, "{command}");
    }
    assert!(!fs::exists(trap.world.path("box/target/zeros")).unwrap());
    // The list tells what the index promises, which is a warning to whoever asks.
    let listed = trap.spring("ls", "");
    assert_eq!(listed.code, 0, "{listed:?}");
    assert!(listed.stdout.contains("1099511627776"), "{listed:?}");
}

#[test]
fn a_frame_that_holds_more_than_it_says_is_refused() {
    let mut crafted = Crafted::default();
    let _ = crafted.file("a", b"x").finish();
    let bomb = forge::zstd_of(&vec![0; 4 << 20]);
    let frames = [(crafted.tar.len() as u64, bomb.len() as u64)];
    let forged = crafted.with_frames(&bomb, &frames, forge::FRAME_SIZE);
    Case { forged, path: "a", told: 3, says: &["not one zstd frame of the size"] }.check();
}

#[test]
fn a_bomb_that_keeps_its_promise_costs_neither_memory_nor_disk() {
    let forged = Zeros::new(1 << 30).whole();
    assert!(forged.zstd.len() < 64 << 10, "{}", forged.zstd.len());
    let trap = Trap::set(&forged);
    // All of it goes by in less memory than it has, and its end shows that it is not what the index says.
    let ran = trap.confined(&["verify", "latest", "--identity", text(&trap.world.identity)]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("`zeros`") && ran.stderr.contains("content hash"), "{ran:?}");
    // Who has no room for it does not begin.
    let small = SmallFs::mount(8 << 20);
    let ran = trap.confined(&["restore", "latest", "--to", text(small.path())]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("find room for `zeros`"), "{ran:?}");
    assert_eq!(fs::read_dir(small.path()).unwrap().count(), 0);
    // Who reads its beginning gets zeros, and no more of them than asked for.
    let ran = trap.confined(&["cat", "latest", "zeros"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.bytes.len() == 1 << 20 && ran.bytes.iter().all(|byte| *byte == 0));
}

//! Keys: made once, kept private, announced; and no way to encrypt to nobody.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use xvault_testkit::tools;

use crate::world::{World, everything, run, text};

#[test]
fn keygen_prints_what_age_reads() {
    let world = World::new();
    let file = world.path("key.txt");
    let recipient = world.ok(&["keygen", "-o", text(&file)]).stdout;
    let age = tools::run(tools::command("age-keygen", ["-y"]).arg(&file));
    assert_eq!(String::from_utf8(age).unwrap(), recipient);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&file).unwrap();
    let ran = world.run(&["keygen", "-o", text(&file)]);
    assert!(ran.code == 1 && ran.stderr.contains(text(&file)), "{ran:?}");
    assert_eq!(fs::read(&file).unwrap(), before, "a key is never overwritten");
}

#[test]
fn the_first_backup_makes_and_announces_a_key() {
    let world = World::new();
    let tree = world.tree(|dir| fs::write(dir.join("file"), "x").unwrap());
    let backup = ["backup", text(&tree)];
    let ran = run(world.command(&backup).env_remove("XVAULT_IDENTITY"));
    assert_eq!(ran.code, 0, "{ran:?}");
    let key = world.path(".config/xvault/identity.txt");
    assert!(ran.stderr.contains(text(&key)) && ran.stderr.contains("keep a copy"), "{ran:?}");
    assert!(!everything(&ran).contains("AGE-SECRET-KEY"), "{ran:?}");
    let ran = run(world.command(&backup).env_remove("XVAULT_IDENTITY"));
    assert!(ran.code == 0 && !ran.stderr.contains("new key"), "made once: {ran:?}");
    let ran = run(world.command(&["ls", "latest"]).env_remove("XVAULT_IDENTITY"));
    assert!(ran.code == 0 && ran.stdout.contains("tree/file"), "{ran:?}");
}

#[test]
fn each_recipient_reads_alone() {
    let world = World::new();
    let tree = world.tree(|dir| fs::write(dir.join("file"), "x").unwrap());
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, first_recipient) = tools::age_keygen(one.path());
    let (second, second_recipient) = tools::age_keygen(two.path());
    let file = world.path("recipients.txt");
    fs::write(&file, format!("# team\n{second_recipient}\n")).unwrap();
    let args = ["backup", text(&tree), "--recipient", &first_recipient, "--recipients-file", text(&file)];
    world.ok(&args);
    for identity in [first, second] {
        world.ok(&["verify", "latest", "--identity", text(&identity)]);
    }
}

#[test]
fn a_private_key_given_as_recipient_is_refused_and_not_repeated() {
    let world = World::new();
    let tree = world.tree(|_| {});
    let secret = fs::read_to_string(&world.identity).unwrap();
    let secret = secret.lines().find(|line| line.starts_with("AGE-SECRET")).unwrap();
    let ran = world.run(&["backup", text(&tree), "--recipient", secret]);
    assert_eq!(ran.code, 1);
    assert!(!everything(&ran).contains(secret), "{ran:?}");
    let ran = world.run(&["backup", text(&tree), "--recipient", "age1nonsense"]);
    assert!(ran.code == 1 && ran.stderr.contains("age1nonsense"), "{ran:?}");
}

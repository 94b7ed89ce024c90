//! `xvault forget`: what stays, what goes, and what it says.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use xvault::core::{Manifest, Meta};
use xvault_testkit::tools;

use crate::world::{Ran, World, ran, run, text};

/// Runs the program at that time of UTC.
fn at(world: &World, time: &str, args: &[&str]) -> Ran {
    let mut command = world.command(&[]);
    let program = command.get_program().to_owned();
    let envs: Vec<_> =
        command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    command = tools::command("faketime", ["--exclude-monotonic", "-m", time]);
    command.arg(program).args(args).env_clear().envs(envs).env("TZ", "UTC").current_dir(world.path(""));
    // Whoever was killed left a semaphore, named by a pid that may come again.
    let is_taken = |ran: &Ran| ran.stdout.contains(TAKEN) || ran.stderr.contains(TAKEN);
    let mut tries = std::iter::repeat_with(|| run(&mut command)).take(10);
    tries.find(|ran| !is_taken(ran)).unwrap_or_else(|| panic!("faketime finds no semaphore that is free"))
}

const TAKEN: &str = "faketime: sem_open: File exists";

/// Backs up `tree` at each of the times; gives the ids.
fn backups(world: &World, tree: &Path, times: &[&str], more: &[&str]) -> Vec<String> {
    let back_up = |time: &&str| {
        let args = ["backup", text(tree), "--recipient", &world.recipient, "--json"];
        let ran = at(world, time, &[&args[..], more].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
        let manifest = crate::world::manifest(&ran);
        assert_eq!(manifest["started_at"].as_str().unwrap()[..10], time[..10], "the clock is faked");
        manifest["snapshot_id"].as_str().unwrap().to_owned()
    };
    times.iter().map(back_up).collect()
}

fn listed(world: &World) -> BTreeSet<String> {
    let lines = world.ok(&["snapshots", "--json"]).stdout;
    lines.lines().map(|line| json(line)["snapshot_id"].as_str().unwrap().to_owned()).collect()
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn small(world: &World) -> PathBuf {
    world.tree(|dir| fs::write(dir.join("file"), "content").unwrap())
}

const TIMES: [&str; 5] = [
    "2026-11-20 10:00:00",
    "2026-11-21 10:00:00",
    "2026-11-22 08:00:00",
    "2026-11-22 10:00:00",
    "2026-11-24 10:00:00",
];
const NOW: &str = "2026-11-24 12:00:00";

#[test]
fn forget_deletes_what_no_rule_keeps_and_says_why() {
    let world = World::new();
    let tree = small(&world);
    let ids = backups(&world, &tree, &TIMES, &[]);
    let rules = ["forget", "--keep-last", "1", "--keep-daily", "3", "--time-zone", "UTC"];

    let dry = at(&world, NOW, &[&rules[..], &["--dry-run"]].concat());
    assert_eq!((dry.code, listed(&world).len()), (0, 5), "{dry:?}");
    let lines: Vec<&str> = dry.stdout.lines().collect();
    assert!(lines[0].starts_with("source ") && lines[0].ends_with(": 2 to keep, 3 to delete"), "{dry:?}");
    assert!(lines[1].starts_with("SNAPSHOT ") && lines[1].ends_with("REASONS"), "{dry:?}");
    let rows = [
        (
            &ids[4],
            "2026-11-24T10:00:0",
            "keep",
            "the last good snapshot; 1st of 1 last; newest of day 2026-11-24",
        ),
        (&ids[3], "2026-11-22T10:00:0", "keep", "newest of day 2026-11-22"),
        (&ids[2], "2026-11-22T08:00:0", "delete", "no rule keeps it"),
        (&ids[1], "2026-11-21T10:00:0", "delete", "no rule keeps it"),
        (&ids[0], "2026-11-20T10:00:0", "delete", "no rule keeps it"),
    ];
    for (line, (id, started, action, reasons)) in lines[2..].iter().zip(rows) {
        assert!(line.starts_with(&format!("{id}  {started}")), "{line}");
        assert!(line.contains(&format!("  {action} ")) && line.ends_with(reasons), "{line}");
    }
    assert!(lines[7].starts_with("dry run: 3 snapshots would be deleted, "), "{dry:?}");

    let done = at(&world, NOW, &rules);
    assert_eq!((done.code, &done.stdout.lines().collect::<Vec<_>>()[..7]), (0, &lines[..7]), "the same plan");
    assert!(done.stdout.lines().last().unwrap().starts_with("deleted 3 snapshots, "), "{done:?}");
    assert_eq!(listed(&world), BTreeSet::from([ids[3].clone(), ids[4].clone()]));
    assert_eq!(world.snapshot_dirs().len(), 2, "nothing of the others lies around");
    world.ok(&["verify", "--all"]);

    let again = at(&world, NOW, &rules);
    assert!(again.code == 0 && again.stdout.ends_with("deleted 0 snapshots, 0 B\n"), "{again:?}");
}

#[test]
fn forget_says_the_same_as_json_lines() {
    let world = World::new();
    let tree = small(&world);
    let ids = backups(&world, &tree, &TIMES[3..], &[]);
    let ran = at(&world, NOW, &["forget", "--keep-last", "1", "--json", "--time-zone", "Europe/Berlin"]);
    let lines: Vec<Value> = ran.stdout.lines().map(json).collect();
    let [kept, deleted, closing] = &lines[..] else { panic!("{ran:?}") };
    assert_eq!((&kept["snapshot_id"], &kept["keep"]), (&ids[1].as_str().into(), &true.into()));
    assert_eq!(kept["reasons"], serde_json::json!(["the last good snapshot", "1st of 1 last"]));
    assert_eq!((&deleted["snapshot_id"], &deleted["keep"]), (&ids[0].as_str().into(), &false.into()));
    assert_eq!(deleted["reasons"], serde_json::json!(["no rule keeps it"]));
    assert_eq!(deleted["tenant_id"], "local");
    assert!(deleted["size_bytes"].as_u64().unwrap() > 100 && deleted["source_id"].is_string(), "{deleted}");
    assert!(deleted["started_at"].as_str().unwrap().starts_with("2026-11-22T10:00:0"), "{deleted}");
    let bytes = &deleted["size_bytes"];
    assert_eq!(
        *closing,
        serde_json::json!({"dry_run": false, "deleted": 1, "deleted_bytes": bytes, "failed": 0})
    );
    assert_eq!(listed(&world), BTreeSet::from([ids[1].clone()]));
}

#[test]
fn days_are_those_of_the_time_zone() {
    let world = World::new();
    let tree = small(&world);
    // Half past midnight of the 24th in Berlin, and eleven at night of the 23rd.
    backups(&world, &tree, &["2026-11-23 22:00:00", "2026-11-23 23:30:00"], &[]);
    let dry = |zone: &str| {
        at(&world, NOW, &["forget", "--keep-daily", "2", "--dry-run", "--time-zone", zone]).stdout
    };
    assert!(dry("Europe/Berlin").contains(": 2 to keep, 0 to delete"), "{}", dry("Europe/Berlin"));
    assert!(
        dry("Europe/Berlin").contains("2026-11-24T00:30:0"),
        "and times are shown there: {}",
        dry("Europe/Berlin")
    );
    assert!(dry("UTC").contains(": 1 to keep, 1 to delete"), "{}", dry("UTC"));
}

#[test]
fn each_source_is_looked_at_alone() {
    let world = World::new();
    let tree = small(&world);
    backups(&world, &tree, &TIMES[..2], &["--source-id", "web"]);
    backups(&world, &tree, &TIMES[..2], &["--source-id", "mail"]);
    let one = at(&world, NOW, &["forget", "--keep-last", "1", "--source-id", "mail"]);
    assert!(one.code == 0 && one.stdout.contains("\ndeleted 1 snapshot, "), "{one:?}");
    assert_eq!(listed(&world).len(), 3);
    let both = at(&world, NOW, &["forget", "--keep-last", "1"]);
    assert!(both.stdout.contains("source mail of tenant local: 1 to keep, 0 to delete"), "{both:?}");
    assert!(both.stdout.contains("source web of tenant local: 1 to keep, 1 to delete"), "{both:?}");
    assert_eq!(listed(&world).len(), 2);
}

#[test]
fn tags_of_a_backup_keep_it() {
    let world = World::new();
    let tree = small(&world);
    let tagged = backups(&world, &tree, &TIMES[..1], &["--tag", "before the move", "--tag", "v1"]);
    let others = backups(&world, &tree, &TIMES[1..3], &["--tag", "v2"]);
    let ran = at(&world, NOW, &["forget", "--keep-last", "1", "--keep-tag", "before the move"]);
    assert!(ran.stdout.contains("keep    tag before the move\n"), "{ran:?}");
    assert_eq!(listed(&world), BTreeSet::from([tagged[0].clone(), others[1].clone()]));
    for bad in ["", "two\nlines"] {
        let ran = world.backup_ran(text(&tree), &["--tag", bad]);
        assert!(ran.code == 2 && ran.stderr.contains("tags are up to 100 texts"), "{ran:?}");
    }
}

#[test]
fn without_a_rule_nothing_is_deleted_and_the_usage_is_wrong() {
    let world = World::new();
    let tree = small(&world);
    let ids = backups(&world, &tree, &TIMES[..2], &[]);
    let needs_rule = "give at least one rule that keeps something: --keep-last N, ";
    for (args, says) in [
        (&[][..], needs_rule),
        (&["--keep-last", "0"], needs_rule),
        (&["--min-age-hours", "1"], needs_rule),
        (&["--may-delete-last"], needs_rule),
        (
            &["--keep-last", "1", "--max-age-days", "0"],
            "--max-age-days is 0, which would delete everything at once",
        ),
        (
            &["--keep-last", "1", "--max-age-days", "1", "--min-age-hours", "24"],
            "--min-age-hours is not shorter than --max-age-days",
        ),
        (&["--keep-last", "1", "--keep-tag", ""], "tags are up to 100 texts"),
        (&["--keep-last", "1", "--time-zone", "Europe/Atlantis"], "`Europe/Atlantis` is no time zone"),
        (&["--keep-last", "-1"], "unexpected argument"),
        (&["--keep-last", "many"], "invalid digit"),
        (&["--keep-within", "30 days"], "such as 30d, 1y6m or 36h"),
        (&[&ids[0], "--keep-last", "1"], "cannot be used with"),
        (&[&ids[0], "--max-age-days", "1"], "cannot be used with"),
    ] {
        let ran = world.run(&[&["forget"], args].concat());
        assert!(ran.code == 2 && ran.stderr.contains(says) && ran.stdout.is_empty(), "{args:?}: {ran:?}");
    }
    assert_eq!(listed(&world).len(), 2);
    let none = world.run(&["forget", "--keep-last", "1", "--store", text(&world.path("none"))]);
    assert!(none.code == 1 && none.stderr.contains("does not exist"), "{none:?}");
    assert!(!world.path("none").exists());
}

#[test]
fn damaged_snapshots_stay_and_are_told() {
    let world = World::new();
    let tree = small(&world);
    let ids = backups(&world, &tree, &TIMES[..3], &[]);
    let dir = |id: &str| world.snapshot_dirs().into_iter().find(|dir| dir.ends_with(id)).unwrap();
    fs::write(dir(&ids[2]).join("backup.tar.zst.enc"), "short").unwrap();
    fs::write(dir(&ids[0]).join("manifest.json"), "{}").unwrap();
    let ran = at(&world, NOW, &["forget", "--keep-last", "1"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stdout.contains(": 1 to keep, 0 to delete"), "{ran:?}");
    for (id, reason) in [(&ids[2], "5 bytes instead of"), (&ids[0], "manifest.json is damaged")] {
        let line = ran.stdout.lines().find(|line| line.starts_with(id.as_str())).unwrap();
        assert!(line.contains("  DAMAGED, counts for nothing and stays") && line.contains(reason), "{line}");
        assert!(line.contains(&format!("`xvault forget {id}`")), "{line}");
    }
    assert_eq!(world.snapshot_dirs().len(), 3);

    let ran = world.ok(&["forget", &ids[0], &ids[2]]);
    assert!(ran.stdout.starts_with("deleted 2 snapshots, "), "{ran:?}");
    assert_eq!(listed(&world), BTreeSet::from([ids[1].clone()]));
    assert_eq!(world.snapshot_dirs().len(), 1);
}

#[test]
fn named_snapshots_are_deleted_and_no_others() {
    let world = World::new();
    let tree = small(&world);
    let ids = backups(&world, &tree, &TIMES[..3], &[]);
    let dry = world.ok(&["forget", &ids[1], "--dry-run"]);
    assert!(dry.stdout.starts_with("dry run: 1 snapshot would be deleted, "), "{dry:?}");
    for bad in ["latest", "no-such", &ids[0][..2], ""] {
        let ran = world.run(&["forget", &ids[1], bad]);
        assert!(ran.code == 1 && !ran.stderr.is_empty(), "{bad}: {ran:?}");
    }
    assert_eq!(listed(&world).len(), 3, "one that is not found keeps the others from being deleted");
    // By a beginning, and twice.
    world.ok(&["forget", &ids[1][..30], &ids[1]]);
    assert_eq!(listed(&world), BTreeSet::from([ids[0].clone(), ids[2].clone()]));
}

#[test]
fn what_can_not_be_deleted_keeps_no_other_from_being_deleted() {
    let world = World::new();
    let tree = small(&world);
    let ids = backups(&world, &tree, &TIMES[..3], &[]);
    // Somebody else has the place where a snapshot goes before it is removed.
    let dir = world.snapshot_dirs().remove(0);
    let staging = dir.with_file_name(format!(".{}.staging", ids[0]));
    fs::create_dir(&staging).unwrap();
    let mut holder =
        tools::command("flock", [text(&staging), "sleep", "60"]).process_group(0).spawn().unwrap();
    let busy = || {
        tools::command("flock", ["--nonblock", text(&staging), "true"]).status().unwrap().code() == Some(1)
    };
    wait_until("the lock is held", busy);
    let ran = at(&world, NOW, &["forget", "--keep-last", "1", "--json"]);
    let group = format!("-{}", holder.id());
    let _ = tools::run(&mut tools::command("kill", ["-KILL", "--", &group]));
    holder.wait().unwrap();
    assert_eq!(ran.code, 1, "{ran:?}");
    let errors: Vec<Value> = ran.stderr.lines().map(json).filter(|event| event["event"] == "error").collect();
    assert!(errors[0]["message"].as_str().unwrap().starts_with(&format!("delete {}: ", ids[0])), "{ran:?}");
    assert_eq!(errors[1]["message"], "1 of 2 snapshots could not be deleted");
    let closing = json(ran.stdout.lines().last().unwrap());
    assert_eq!((&closing["deleted"], &closing["failed"]), (&1.into(), &1.into()));
    assert!(world.snapshot_dirs().iter().all(|dir| !dir.ends_with(&ids[1])), "the other is gone");

    // Half of it is left: it is no snapshot any more, and goes by its name.
    let table = world.run(&["snapshots"]);
    assert!(table.code == 3 && table.stdout.contains("remains of a deleted"), "{table:?}");
    world.ok(&["forget", &ids[0]]);
    assert_eq!((listed(&world).len(), world.snapshot_dirs().len()), (1, 1));
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Copies of the only snapshot, so many that a forget is met in the middle; the older, the smaller the number.
fn multiply(world: &World, count: u32) {
    let original = world.only_snapshot();
    let manifest = Manifest::from_json(&fs::read(original.join("manifest.json")).unwrap()).unwrap();
    let meta = Meta::from_json(&fs::read(original.join("meta.json")).unwrap()).unwrap();
    for number in 0..count {
        let id = format!("copy-{number:04}");
        let dir = original.with_file_name(&id);
        fs::create_dir(&dir).unwrap();
        for file in ["backup.tar.zst.enc", "index.zst.enc"] {
            fs::copy(original.join(file), dir.join(file)).unwrap();
        }
        let snapshot_id: xvault::core::SnapshotId = id.parse().unwrap();
        let meta = Meta { snapshot_id: snapshot_id.clone(), ..meta.clone() };
        fs::write(dir.join("meta.json"), meta.to_json().unwrap()).unwrap();
        let manifest = Manifest { snapshot_id, ..manifest.clone() };
        fs::write(dir.join("manifest.json"), manifest.to_json().unwrap()).unwrap();
    }
}

/// How many snapshots have all their files with the right hashes. Not looked into: the indexes of copies name the original.
fn sound(world: &World) -> usize {
    let mut command = world.command(&["verify", "--all", "--json"]);
    let verified = run(command.env_remove("XVAULT_IDENTITY"));
    verified.stdout.lines().map(json).filter(|line| line["ok"] == true).count()
}

const COPIES: usize = 60;

/// A forget that is met after it has deleted some snapshots, and before it has deleted all.
fn start_forget(world: &World) -> Child {
    multiply(world, u32::try_from(COPIES).unwrap());
    let before = world.snapshot_dirs().len();
    let mut command = world.command(&["forget", "--keep-last", "1"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("something is deleted", || world.snapshot_dirs().len() + 3 < before);
    child
}

fn signal(child: &Child, name: &str) {
    let _ = tools::run(&mut tools::command("kill", [&format!("-{name}"), &child.id().to_string()]));
}

#[test]
fn a_killed_forget_leaves_whole_snapshots_or_none() {
    for round in 0..3 {
        let world = World::new();
        let tree = small(&world);
        world.backup(text(&tree), &[]);
        let mut child = start_forget(&world);
        std::thread::sleep(Duration::from_millis(round * 7));
        signal(&child, "KILL");
        child.wait().unwrap();
        let table = world.run(&["snapshots", "--json"]);
        let left = table.stdout.lines().map(json).filter(|line| line["error"].is_null()).count();
        assert!((1..COPIES).contains(&left), "round {round}: {left} are left");
        assert_eq!(sound(&world), left, "whatever is listed as a snapshot is whole");

        // The next one ends what was begun. Only between two steps of one deletion a remainder has to be named.
        let again = world.run(&["forget", "--keep-last", "1", "--json"]);
        assert!([0, 3].contains(&again.code), "{again:?}");
        for remains in again.stdout.lines().map(json).filter(|line| line["error"].is_string()) {
            world.ok(&["forget", remains["snapshot_id"].as_str().unwrap()]);
        }
        assert_eq!((listed(&world).len(), world.snapshot_dirs().len()), (1, 1), "round {round}");
        assert_eq!(sound(&world), 1, "round {round}");
    }
}

#[test]
fn an_interrupted_forget_ends_with_130_between_two_snapshots() {
    let world = World::new();
    let tree = small(&world);
    world.backup(text(&tree), &[]);
    let child = start_forget(&world);
    signal(&child, "INT");
    let ran = ran(child.wait_with_output().unwrap());
    // A fast machine may be done before the signal arrives.
    assert!(
        ran.code == 130 && ran.stderr.contains("not deleted yet is whole and stays") || ran.code == 0,
        "{ran:?}"
    );
    let left = listed(&world).len();
    assert_eq!((left, sound(&world)), (world.snapshot_dirs().len(), left), "nothing is half deleted");
}

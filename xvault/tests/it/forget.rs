//! What a policy makes of the snapshots in a store, and how they go.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use xvault::connectors::store::unreliable::{Call, UnreliableStore};
use xvault::core::snapshot::{ARTIFACT_NAME, Completeness, INDEX_NAME, MANIFEST_NAME, META_NAME};
use xvault::core::{Dispose, Disposition, Manifest, SnapshotKey};
use xvault::forget::{self, SourcePlan};
use xvault::retention::{Policy, Rules};
use xvault::{Control, Error, Filter, FsStore, Store};
use xvault_testkit::samples;

fn key(source: &str, id: &str) -> SnapshotKey {
    SnapshotKey {
        tenant_id: "local".parse().unwrap(),
        source_id: source.parse().unwrap(),
        snapshot_id: id.parse().unwrap(),
    }
}

/// Puts the files of a snapshot, whose content is none, into the store in `folder`.
fn put(folder: &Path, key: &SnapshotKey, day: &str, change: impl FnOnce(&mut Manifest)) {
    let mut manifest = samples::manifest(key);
    manifest.started_at = format!("{day}T10:00:00Z").parse().unwrap();
    change(&mut manifest);
    let dir = folder.join(key.prefix());
    fs::create_dir_all(&dir).unwrap();
    for (name, bytes) in [
        (ARTIFACT_NAME, b"artifact".to_vec()),
        (INDEX_NAME, b"an index".to_vec()),
        (META_NAME, samples::meta(key).to_json().unwrap()),
        (MANIFEST_NAME, manifest.to_json().unwrap()),
    ] {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

fn keep_last(count: u64) -> Policy {
    Policy::try_from(Rules { keep_last_n: Some(count), ..Rules::default() }).unwrap()
}

async fn plan(store: &dyn Store, policy: &Policy) -> Result<Vec<SourcePlan>, Error> {
    let now: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
    forget::plan(store, &Filter::default(), policy, (now, &TimeZone::UTC), &Control::default()).await
}

fn doomed(plan: &SourcePlan) -> Vec<&str> {
    plan.to_delete().map(|manifest| manifest.snapshot_id.as_str()).collect()
}

#[tokio::test]
async fn each_source_has_a_plan_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    for (source, id, day) in [
        ("a", "a1", "2026-11-01"),
        ("a", "a2", "2026-11-02"),
        ("b", "b1", "2026-11-03"),
        ("a", "a3", "2026-10-30"),
    ] {
        put(dir.path(), &key(source, id), day, |_| {});
    }
    let store = FsStore::open(dir.path()).unwrap();
    let plans = plan(&store, &keep_last(1)).await.unwrap();
    let [a, b] = &plans[..] else { panic!("{plans:?}") };
    assert_eq!((a.source_id.as_str(), doomed(a)), ("a", vec!["a3", "a1"]), "oldest first, whatever the ids");
    assert_eq!((b.source_id.as_str(), doomed(b)), ("b", vec![]));

    for manifest in a.to_delete() {
        forget::delete(&store, &manifest.key()).await.unwrap();
        forget::delete(&store, &manifest.key()).await.unwrap();
    }
    let left: Vec<String> = xvault::list(&store, &Filter::default())
        .await
        .unwrap()
        .into_iter()
        .map(|one| one.key.snapshot_id.to_string())
        .collect();
    assert_eq!(left, ["a2", "b1"]);
    let beside = fs::read_dir(dir.path().join("tenants/local/sources/a/snapshots")).unwrap();
    assert_eq!(beside.count(), 1, "nothing lies around");
}

#[tokio::test]
async fn what_the_manifest_tells_counts() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &key("a", "whole"), "2026-11-01", |_| {});
    put(dir.path(), &key("a", "partial"), "2026-11-02", |manifest| {
        manifest.completeness = Completeness::Partial;
    });
    put(dir.path(), &key("a", "tagged"), "2026-10-01", |manifest| manifest.tags = vec!["release".to_owned()]);
    put(dir.path(), &key("a", "old"), "2026-10-02", |_| {});
    let store = FsStore::open(dir.path()).unwrap();
    let rules = Rules { keep_last_n: Some(1), keep_tags: vec!["release".to_owned()], ..Rules::default() };
    let plans = plan(&store, &Policy::try_from(rules).unwrap()).await.unwrap();
    let said: Vec<String> = plans[0]
        .plan
        .decisions
        .iter()
        .map(|decision| {
            format!(
                "{} {:?}",
                decision.id,
                decision.reasons.iter().map(ToString::to_string).collect::<Vec<_>>()
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            r#"partial ["1st of 1 last"]"#,
            r#"whole ["the last good snapshot", "1st of 1 last"]"#,
            r#"old ["no rule keeps it"]"#,
            r#"tagged ["tag release"]"#,
        ]
    );
}

/// Does harm in a snapshot's directory.
type Damage = fn(&Path);

#[tokio::test]
async fn a_damaged_snapshot_counts_for_nothing_and_is_left_alone() {
    let damages: [(&str, Damage); 5] = [
        ("has 3 bytes instead of 8", |dir| fs::write(dir.join(ARTIFACT_NAME), "art").unwrap()),
        ("is missing", |dir| fs::remove_file(dir.join(ARTIFACT_NAME)).unwrap()),
        ("is missing", |dir| fs::remove_file(dir.join(INDEX_NAME)).unwrap()),
        ("is missing", |dir| fs::remove_file(dir.join(MANIFEST_NAME)).unwrap()),
        ("manifest.json is damaged", |dir| fs::write(dir.join(MANIFEST_NAME), "{").unwrap()),
    ];
    for (reason, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), &key("a", "old"), "2026-11-01", |_| {});
        put(dir.path(), &key("a", "new"), "2026-11-02", |_| {});
        damage(&dir.path().join(key("a", "new").prefix()));
        let store = FsStore::open(dir.path()).unwrap();
        let plans = plan(&store, &keep_last(1)).await.unwrap();
        assert_eq!(doomed(&plans[0]), Vec::<&str>::new(), "{reason}: the old one is the only good one");
        let [(damaged, fault)] = &plans[0].damaged[..] else { panic!("{reason}: {plans:?}") };
        assert_eq!(damaged.snapshot_id.as_str(), "new");
        assert!(fault.to_string().contains(reason), "{fault}");
    }
}

#[tokio::test]
async fn nothing_is_decided_while_the_store_can_not_tell() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &key("a", "old"), "2026-11-01", |_| {});
    put(dir.path(), &key("a", "new"), "2026-11-02", |_| {});
    for call in [Call::Read, Call::List] {
        let store = UnreliableStore::new(FsStore::open(dir.path()).unwrap()).failing(call, 1);
        let error = plan(&store, &keep_last(1)).await.unwrap_err();
        assert_eq!(error.disposition(), Disposition::Transient, "{call:?}: {error}");
        assert_eq!(doomed(&plan(&store, &keep_last(1)).await.unwrap()[0]), ["old"]);
    }
}

#[tokio::test]
async fn a_snapshot_is_named_by_its_id_be_it_damaged() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &key("a", "one-1"), "2026-11-01", |_| {});
    put(dir.path(), &key("a", "one-2"), "2026-11-02", |_| {});
    fs::write(dir.path().join(key("a", "one-2").prefix()).join(MANIFEST_NAME), "{").unwrap();
    let store = FsStore::open(dir.path()).unwrap();
    let locate = |text: &'static str| {
        let store = &store;
        async move { xvault::locate(store, text, &Filter::default()).await }
    };
    assert_eq!(locate("one-2").await.unwrap(), key("a", "one-2"));
    assert_eq!(locate("one-1").await.unwrap(), key("a", "one-1"));
    assert!(matches!(locate("one").await, Err(Error::Ambiguous { count: 2, .. })));
    for none in ["latest", "two", ""] {
        assert!(matches!(locate(none).await, Err(Error::NoSnapshot { .. })), "{none}");
    }
}

//! Verifications of snapshots that really lie there: each kind of damage is found and named, and what is no damage is none.

use std::fs;
use std::path::PathBuf;

use xvault::core::protocol::{
    Finding, Outcome, Sealed, StoreAccess, Task, TaskResult, VerifyDepth, VerifyTask,
};
use xvault::core::secret::ExposeSecret;
use xvault::core::{Disposition, Identity, JobId, JobStatus, SnapshotKey};

use serde_json::json;
use xvault_testkit::forge::{Crafted, Forged};
use xvault_testkit::samples;

use crate::support::{Bench, eventually, key_of};

const DEPTHS: [VerifyDepth; 3] = VerifyDepth::ALL;

/// A worker with a snapshot of a small tree.
struct Scene {
    bench: Bench,
    key: SnapshotKey,
}

impl Scene {
    async fn set() -> Self {
        let bench = Bench::start().await;
        let data = bench.data();
        fs::create_dir(data.join("site")).unwrap();
        fs::write(data.join("site/index.html"), "hello".repeat(1000)).unwrap();
        fs::hard_link(data.join("site/index.html"), data.join("site/copy.html")).unwrap();
        std::os::unix::fs::symlink("index.html", data.join("site/link")).unwrap();
        let task = bench.local_backup();
        let key = key_of(&task);
        let made = bench.submit(task);
        bench.reaches(&made, JobStatus::Completed).await;
        Self { bench, key }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.bench.storage().join(self.key.prefix()).join(name)
    }

    /// What opens the snapshot, for this worker.
    fn sealed(&self, identity: &Identity) -> Vec<Sealed> {
        let secret = identity.to_secret();
        vec![Sealed::to(&self.bench.recipient, secret.expose_secret().as_bytes()).unwrap()]
    }

    fn begin(&self, depth: VerifyDepth, identities: Vec<Sealed>) -> JobId {
        let (snapshot, store) = (self.key.clone(), StoreAccess::LocalFs);
        let job_id =
            self.bench.hub.add(Task::Verify(Box::new(VerifyTask { snapshot, store, depth, identities })));
        self.bench.send_own(&job_id);
        job_id
    }

    async fn found(&self, depth: VerifyDepth) -> Finding {
        let identities = if depth.decrypts() { self.sealed(&self.bench.identity) } else { Vec::new() };
        let job_id = self.begin(depth, identities);
        self.bench.reaches(&job_id, JobStatus::Completed).await;
        match self.bench.hub.job(&job_id, |job| job.outcome.clone()) {
            Some(Outcome::Completed { result: TaskResult::Verify { depth: done, finding } }) => {
                assert_eq!(done, depth);
                finding
            }
            other => panic!("{other:?}"),
        }
    }

    /// What is found when a file is changed so; it is put back afterwards.
    async fn damage(
        &self,
        depth: VerifyDepth,
        name: &str,
        change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>,
    ) -> String {
        let before = fs::read(self.file(name)).unwrap();
        match change(before.clone()) {
            Some(bytes) => fs::write(self.file(name), bytes).unwrap(),
            None => fs::remove_file(self.file(name)).unwrap(),
        }
        let found = self.found(depth).await;
        fs::write(self.file(name), before).unwrap();
        match found {
            Finding::Damaged { damage } => damage,
            sound @ Finding::Ok { .. } => panic!("{depth} of a damaged {name}: {sound:?}"),
        }
    }

    /// How an attempt failed: code and disposition.
    async fn failure(&self, job_id: &JobId) -> (String, Disposition) {
        assert!(eventually(|| self.bench.hub.job(job_id, |job| job.completions == 1)).await);
        match self.bench.hub.job(job_id, |job| job.outcome.clone()) {
            Some(Outcome::Failed { error, disposition }) => (error.code, disposition),
            other => panic!("{other:?}"),
        }
    }
}

fn flipped(at: usize) -> impl FnOnce(Vec<u8>) -> Option<Vec<u8>> {
    move |mut bytes| {
        let at = at.min(bytes.len() - 1);
        bytes[at] ^= 1;
        Some(bytes)
    }
}

#[tokio::test]
async fn a_sound_snapshot_is_sound_at_every_depth() {
    let scene = Scene::set().await;
    let Finding::Ok { entries: 0, bytes, databases: None } = scene.found(VerifyDepth::Quick).await else {
        panic!()
    };
    let stored = |name| fs::metadata(scene.file(name)).unwrap().len();
    assert_eq!(bytes, stored("backup.tar.zst.enc") + stored("index.zst.enc"));
    let Finding::Ok { entries, bytes, databases: None } = scene.found(VerifyDepth::RestoreTest).await else {
        panic!()
    };
    // Directories above the content are entries, too.
    assert!(entries >= 4 && bytes == 5000, "{entries} {bytes}");
    let Finding::Ok { entries: checked, .. } = scene.found(VerifyDepth::Deep).await else { panic!() };
    assert_eq!(checked, entries);
}

#[tokio::test]
async fn every_depth_finds_a_flipped_bit_a_missing_end_and_a_missing_file_and_names_it() {
    let scene = Scene::set().await;
    for depth in DEPTHS {
        for name in ["backup.tar.zst.enc", "index.zst.enc"] {
            for at in [0, 40, 300, usize::MAX] {
                let told = scene.damage(depth, name, flipped(at)).await;
                assert!(told.contains(name), "{depth}, byte {at}: {told}");
            }
            let told = scene.damage(depth, name, |bytes| Some(bytes[..bytes.len() / 2].to_vec())).await;
            assert!(told.contains(name), "{depth}: {told}");
            let told = scene.damage(depth, name, |_| None).await;
            assert!(told.contains(name) && told.contains("missing"), "{depth}: {told}");
        }
        for name in ["manifest.json", "meta.json"] {
            let told = scene.damage(depth, name, |_| None).await;
            assert!(told.contains(name), "{depth}: {told}");
            let told = scene.damage(depth, name, flipped(30)).await;
            assert!(told.contains(name), "{depth}: {told}");
        }
    }
    assert!(matches!(scene.found(VerifyDepth::Deep).await, Finding::Ok { .. }), "all was put back");
}

#[tokio::test]
async fn a_store_where_nothing_lies_says_nothing_of_a_snapshot() {
    let scene = Scene::set().await;
    let tenants = scene.bench.storage().join("tenants");
    fs::rename(&tenants, scene.bench.storage().join("elsewhere")).unwrap();
    let job_id = scene.begin(VerifyDepth::Quick, Vec::new());
    assert_eq!(scene.failure(&job_id).await, ("store_empty".to_owned(), Disposition::Transient));
}

#[tokio::test]
async fn an_identity_that_does_not_fit_says_nothing_of_a_snapshot() {
    let scene = Scene::set().await;
    for depth in [VerifyDepth::Deep, VerifyDepth::RestoreTest] {
        let job_id = scene.begin(depth, scene.sealed(&Identity::generate()));
        assert_eq!(scene.failure(&job_id).await, ("wrong_identity".to_owned(), Disposition::Permanent));
    }
}

/// A snapshot with two files and a link, which leads to `b` in the artifact and to `told` in the index; every hash fits.
fn with_link(kind: &str, told: &str) -> Forged {
    let mut crafted = Crafted::default();
    crafted.file("a", b"one").file("b", b"two");
    let (flag, count) = match kind {
        "symlink" => (b'2', &mut crafted.totals.symlinks),
        _ => (b'1', &mut crafted.totals.hardlinks),
    };
    *count += 1;
    crafted.tar("link", flag, b"", "b").line("link", 1, &json!({"kind": kind, "target": told}));
    crafted.finish()
}

/// Somebody who has the tenant's recipient, which is no secret, can write a whole snapshot anew. What they must not manage is that the
/// artifact and the index tell two stories.
#[tokio::test]
async fn a_link_that_leads_elsewhere_than_the_index_says_is_damage_although_every_hash_fits() {
    let bench = Bench::start().await;
    let mut scene = Scene { key: samples::key(), bench };
    let (store, recipient) = (scene.bench.storage(), scene.bench.identity.recipient());
    for kind in ["symlink", "hardlink"] {
        let honest = with_link(kind, "b");
        scene.key = honest.key.clone();
        honest.commit(&store, &recipient);
        for depth in DEPTHS {
            let found = scene.found(depth).await;
            assert!(matches!(found, Finding::Ok { .. }), "{kind}, {depth}: {found:?}");
        }
        let lying = with_link(kind, "a");
        scene.key = lying.key.clone();
        lying.commit(&store, &recipient);
        assert!(matches!(scene.found(VerifyDepth::Quick).await, Finding::Ok { .. }), "hashes fit");
        for depth in [VerifyDepth::Deep, VerifyDepth::RestoreTest] {
            let Finding::Damaged { damage } = scene.found(depth).await else {
                panic!("{depth} did not find the {kind}")
            };
            assert!(damage.contains("`link`") && damage.contains("backup.tar.zst.enc"), "{damage}");
        }
    }
}

//! Tenants bring their own keys, after they have shown that they can use them.

use std::time::Duration;

use serde_json::{Value, json};
use xvault_core::protocol::Task;
use xvault_core::secret::ExposeSecret as _;
use xvault_core::{Identity, Recipient};
use xvault_testkit::tools;

use crate::fake_worker::{FakeWorker, enqueue, ssh_source};
use crate::world::{Tenant, World, WorldBuilder, text};

pub(crate) fn path(tenant: &Tenant) -> String {
    format!("/api/v1/tenants/{}/recipients", tenant.id)
}

/// What `age -d` makes of a challenge, as the manual says.
fn decrypted(challenge: &Value, identity: &Identity) -> String {
    let dir = tempfile::tempdir().unwrap();
    let (key, file) = (dir.path().join("own.txt"), dir.path().join("challenge.age"));
    std::fs::write(&key, identity.to_secret().expose_secret()).unwrap();
    std::fs::write(&file, text(&challenge["challenge"])).unwrap();
    let args = [std::ffi::OsStr::new("-d"), "-i".as_ref(), key.as_os_str(), file.as_os_str()];
    String::from_utf8(tools::run(&mut tools::command("age", args))).unwrap()
}

/// Answers to the challenges of these keys.
pub(crate) async fn answers(tenant: &Tenant, wanted: &Value, keys: &[&Identity]) -> Value {
    let made = tenant.owner.post(&format!("{}/challenge", path(tenant)), wanted.clone()).await.expect(200);
    let challenges = made["challenges"].as_array().unwrap();
    assert_eq!(challenges.len(), keys.len());
    let answer = |challenge: &Value| {
        let recipient = text(&challenge["recipient"]);
        let key = keys.iter().find(|key| key.recipient().to_string() == recipient).unwrap();
        (recipient, json!(decrypted(challenge, key)))
    };
    Value::Object(challenges.iter().map(answer).collect())
}

/// Whom the next backup is encrypted to.
async fn next_backup(tenant: &Tenant, worker: &FakeWorker) -> (Vec<Recipient>, Vec<Recipient>) {
    let (_, source) = ssh_source(&tenant.admin).await;
    let job = worker.claim(&enqueue(&tenant.member, &source).await).await;
    let Task::Backup(task) = job.task else { panic!("{:?}", job.task) };
    (task.recipients, task.index_recipients)
}

async fn new_backups_are_encrypted_to_a_tenants_own_key_and_the_index_to_the_platforms(world: World) {
    let acme = world.tenant("acme").await;
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let own = Identity::generate();
    let wanted = json!({ "data": [own.recipient()] });
    let answers = answers(&acme, &wanted, &[&own]).await;
    let body = json!({ "data": [own.recipient()], "answers": answers });
    let set = acme.owner.put(&path(&acme), body.clone()).await.expect(200);
    assert_eq!(
        set["data"],
        json!([{
            "public_key": own.recipient(), "key_id": own.recipient().key_id(), "platform_can_decrypt": false,
        }])
    );
    assert_eq!(set["index"][0]["platform_can_decrypt"], true);
    assert_eq!(acme.member.get(&path(&acme)).await.expect(200), set);
    let index: Recipient = text(&set["index"][0]["public_key"]).parse().unwrap();
    assert_ne!(index.to_string(), acme.public_key, "the key of before opens content, too");
    assert_eq!(next_backup(&acme, &worker).await, (vec![own.recipient()], vec![index]));

    // An answer counts once.
    let used = acme.owner.put(&path(&acme), body).await.refused(409, "challenge_failed");
    assert_eq!(used["details"]["recipient"], json!(own.recipient()));
    // Old snapshots stay readable: their identity is still here.
    let identity = format!("/api/v1/tenants/{}/identity", acme.id);
    let file = text(&acme.owner.post(&identity, json!({})).await.expect(200)["identity"]);
    assert!(file.contains(&acme.public_key), "{}", file.lines().next().unwrap());
    assert!(!file.contains(&own.recipient().to_string()));

    let back = acme.owner.delete(&path(&acme)).await.expect(200);
    assert_eq!(
        (back["data"].clone(), back["data"][0]["platform_can_decrypt"].clone()),
        (back["index"].clone(), json!(true))
    );
    let platform: Recipient = text(&back["data"][0]["public_key"]).parse().unwrap();
    assert_eq!(next_backup(&acme, &worker).await, (vec![platform.clone()], vec![platform]));
    for action in ["challenge", "set", "give_back"] {
        let path = format!("/api/v1/audit-events?action=tenant.recipients.{action}");
        let events = acme.owner.get(&path).await.expect(200);
        assert_eq!(events["audit_events"].as_array().unwrap().len(), 1, "{action}");
    }
}

async fn an_index_of_the_tenants_own_is_not_looked_into(world: World) {
    let acme = world.tenant("acme").await;
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let (data, index) = (Identity::generate(), Identity::generate());
    let wanted = json!({ "data": [data.recipient()], "index": [index.recipient()] });
    let mut body = wanted.clone();
    body["answers"] = answers(&acme, &wanted, &[&data, &index]).await;
    acme.owner.put(&path(&acme), body).await.expect(200);
    assert_eq!(next_backup(&acme, &worker).await, (vec![data.recipient()], vec![index.recipient()]));
    let (_, source) = ssh_source(&acme.admin).await;
    let own = index.recipient();
    let as_told = |manifest: &mut xvault_core::Manifest| manifest.index_recipients = vec![own];
    let snapshot = worker.back_up_as(&enqueue(&acme.member, &source).await, as_told).await;
    let entries = format!("/api/v1/snapshots/{snapshot}/entries");
    let refused = acme.member.get(&entries).await.refused(409, "index_not_readable");
    assert!(text(&refused["error"]).contains("age -d"), "{refused}");
}

async fn answers_that_prove_nothing_are_refused(world: World) {
    let (acme, umbrella) = (world.tenant("acme").await, world.tenant("umbrella").await);
    let (one, two) = (Identity::generate(), Identity::generate());
    let wanted = json!({ "data": [one.recipient(), two.recipient()] });
    let good = answers(&acme, &wanted, &[&one, &two]).await;
    let key = |identity: &Identity| identity.recipient().to_string();
    let (mut missing, mut wrong, mut swapped) = (good.clone(), good.clone(), good.clone());
    missing.as_object_mut().unwrap().remove(&key(&two));
    wrong[key(&two)] = json!("xvc_no");
    swapped[key(&two)] = good[key(&one)].clone();
    for answers in [missing, wrong, swapped] {
        let body = json!({ "data": wanted["data"], "answers": answers });
        let refused = acme.owner.put(&path(&acme), body).await.refused(409, "challenge_failed");
        assert_eq!(refused["details"]["recipient"], json!(two.recipient()));
    }
    // Nothing was changed by that, nor does another tenant get on with them.
    let body = json!({ "data": wanted["data"], "answers": good });
    umbrella.owner.put(&path(&umbrella), body.clone()).await.refused(409, "challenge_failed");
    assert_eq!(
        acme.member.get(&path(&acme)).await.expect(200)["data"][0]["public_key"],
        json!(acme.public_key)
    );
    acme.admin.put(&path(&acme), body.clone()).await.refused(403, "forbidden");
    // The good ones still count, as the refused attempts used none up; but once only.
    acme.owner.put(&path(&acme), body.clone()).await.expect(200);
    acme.owner.put(&path(&acme), body).await.refused(409, "challenge_failed");
    let dump = world.database.dump();
    let word = text(&good[key(&one)]);
    assert!(!dump.windows(word.len()).any(|part| part == word.as_bytes()), "only hashes are stored");
}

async fn a_late_answer_is_refused(builder: WorldBuilder) {
    let world = builder.manual_clock().start().await;
    let acme = world.tenant("acme").await;
    let own = Identity::generate();
    let wanted = json!({ "data": [own.recipient()] });
    let answers = answers(&acme, &wanted, &[&own]).await;
    world.clock.advance(Duration::from_secs(15 * 60));
    let owner = world.nobody().login(&acme.owner.email, crate::world::PASSWORD).await;
    let body = json!({ "data": [own.recipient()], "answers": answers });
    owner.put(&path(&acme), body).await.refused(409, "challenge_failed");
}

async fn what_is_no_key_of_ones_own_is_refused(world: World) {
    let acme = world.tenant("acme").await;
    let own = Identity::generate().recipient().to_string();
    let cases = [
        (json!({ "data": [] }), "data"),
        (json!({ "data": ["age1nonsense"] }), "age1nonsense"),
        (json!({ "data": [own, own] }), "twice"),
        (json!({ "data": [own], "index": [acme.public_key] }), "platform"),
        (json!({ "data": vec![own.clone(); 9] }), "8 keys"),
    ];
    for (body, expected) in cases {
        let refused = acme.owner.post(&format!("{}/challenge", path(&acme)), body).await;
        let refused = refused.refused(422, "invalid_field");
        assert!(text(&refused["error"]).contains(expected), "{refused}");
    }
}

on_both_engines!(
    new_backups_are_encrypted_to_a_tenants_own_key_and_the_index_to_the_platforms,
    an_index_of_the_tenants_own_is_not_looked_into,
    answers_that_prove_nothing_are_refused,
    what_is_no_key_of_ones_own_is_refused,
);
on_both_engines!(crate::world::World::unstarted => a_late_answer_is_refused);

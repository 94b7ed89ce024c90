//! SFTP servers that lie to who pushes files to them: an error, soon, and never a file that is said to be there.

use std::time::{Duration, Instant};

use bytes::Bytes;
use xvault_connectors::Error;
use xvault_connectors::target::{Plan, SftpTarget, SftpTargetOptions, Target};
use xvault_core::{Dispose, Disposition, Entry, EntryKind, EntryPath, Metadata, Overwrite};

use crate::ssh_hostile::{Asked, CLOSE, DIR, OPEN, SILENCE, attrs, liar, packet, status, string};

const INIT: u8 = 1;
const WRITE: u8 = 6;
const LSTAT: u8 = 7;
const SETSTAT: u8 = 9;
const FSETSTAT: u8 = 10;
const REMOVE: u8 = 13;
const MKDIR: u8 = 14;
const STAT: u8 = 17;
const RENAME: u8 = 18;
const EXTENDED: u8 = 200;

const NO_SUCH_FILE: u32 = 2;
const FAILURE: u32 = 4;
/// What a push asks for, in this order.
const STEPS: [u8; 9] = [STAT, LSTAT, MKDIR, SETSTAT, OPEN, WRITE, FSETSTAT, CLOSE, RENAME];

/// A server below whose `/t` there is nothing, and that takes everything.
fn takes(asked: Asked) -> Vec<u8> {
    match asked.kind {
        INIT => packet(2, 3, &[]),
        STAT => packet(105, asked.id, &attrs(0, DIR)),
        LSTAT => status(asked.id, NO_SUCH_FILE),
        OPEN => packet(102, asked.id, &string(b"h")),
        _ => status(asked.id, 0),
    }
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry { path: EntryPath::new(path).unwrap(), kind, metadata: Metadata::default() }
}

async fn pushed(target: &mut SftpTarget) -> Result<(), Error> {
    let entries = [entry("d", EntryKind::Directory), entry("d/f", EntryKind::File { size: 10 })];
    target.connect().await?;
    assert_eq!(target.plan(&entries).await?, [Plan::Push, Plan::Push]);
    target.begin(&entries[0]).await?;
    target.begin(&entries[1]).await?;
    target.data(Bytes::from_static(b"0123456789")).await?;
    target.end().await?;
    target.finish_directories(&entries).await?;
    target.finish().await
}

/// Pushes a directory with a file to a server that tells this lie. Ends soon, whatever that is.
async fn push(lie: impl Fn(Asked) -> Option<Vec<u8>> + Send + Sync + 'static) -> Result<(), Error> {
    let lie = move |asked| Some(lie(asked).unwrap_or_else(|| takes(asked)));
    let (_, mut options, serving) = liar(lie).await;
    options.timeouts.idle = Duration::from_secs(2);
    options.timeouts.reconnects = 0;
    let options_of = SftpTargetOptions { directory: "/t".into(), overwrite: Overwrite::Never, owner: false };
    let mut target = SftpTarget::new(options, options_of);
    let ends = async {
        let pushed = pushed(&mut target).await;
        target.abort().await;
        pushed
    };
    let ended = tokio::time::timeout(Duration::from_secs(30), ends).await.expect("it hangs");
    serving.abort();
    ended
}

/// The first request of this kind is answered so.
async fn told(kind: u8, lie: fn(Asked) -> Vec<u8>) -> Error {
    let pushed = push(move |asked| (asked.kind == kind && asked.nth == 0).then(|| lie(asked))).await;
    pushed.expect_err(&format!("a lie about {kind} is believed"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_everything_is_believed() {
    push(|_| None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_answered_wrongly_ends_the_push_and_says_how() {
    type Lie = (&'static str, fn(Asked) -> Vec<u8>);
    let lies: [Lie; 4] = [
        ("which was not asked", |asked| status(asked.id + 1000, 0)),
        ("SFTP packet of 4294967295 bytes", |_| vec![0xff; 64]),
        ("unknown type 77", |asked| packet(77, asked.id, b"")),
        ("too short", |asked| packet(101, asked.id, &[0])),
    ];
    for kind in STEPS {
        for (said, lie) in lies {
            let error = told(kind, lie).await;
            // What is asked alone is told by its number.
            let said =
                if kind == STAT && said.contains("not asked") { "reply 1001 to request 1" } else { said };
            assert!(error.to_string().contains(said), "{kind}: {error}");
            assert_eq!(error.disposition(), Disposition::Permanent, "{kind}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_something_else_is_none() {
    type Case = (u8, fn(Asked) -> Vec<u8>);
    let cases: [Case; 8] = [
        (STAT, |asked| packet(102, asked.id, &string(b"h"))),
        (LSTAT, |asked| packet(102, asked.id, &string(b"h"))),
        (MKDIR, |asked| packet(105, asked.id, &attrs(0, DIR))),
        (SETSTAT, |asked| packet(102, asked.id, &string(b"h"))),
        (WRITE, |asked| packet(103, asked.id, &string(b"data"))),
        (FSETSTAT, |asked| packet(102, asked.id, &string(b"h"))),
        (CLOSE, |asked| packet(105, asked.id, &attrs(0, DIR))),
        (RENAME, |asked| packet(102, asked.id, &string(b"h"))),
    ];
    for (kind, lie) in cases {
        let error = told(kind, lie).await.to_string();
        assert!(error.contains("another answer") || error.contains("stands there"), "{kind}: {error}");
    }
    let error = told(OPEN, |asked| packet(102, asked.id, &string(&[b'h'; 300]))).await;
    assert!(error.to_string().contains("a handle longer than 256 bytes"), "{error}");
    // Twice the same answer.
    let error = told(WRITE, |asked| [status(asked.id, 0), status(asked.id, 0)].concat()).await;
    assert!(error.to_string().contains("which was not asked"), "{error}");
    // Yes is no handle, however often it is said.
    let error =
        push(|asked| (asked.kind == OPEN).then(|| status(asked.id, 0))).await.unwrap_err().to_string();
    assert!(error.contains("create `d/f`") && !error.contains('\u{1b}'), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_at_any_step_is_told_with_the_entry() {
    for kind in STEPS {
        let pushed = push(move |asked| (asked.kind == kind).then(|| status(asked.id, FAILURE))).await;
        let error = pushed.expect_err("it is no success").to_string();
        let named = if kind == STAT { "/t" } else { "`d" };
        assert!(error.contains(named) && !error.contains('\u{1b}'), "{kind}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_up_or_falls_silent_is_given_up_as_transient() {
    for kind in STEPS {
        let error = told(kind, |_| Vec::new()).await;
        assert_eq!(error.disposition(), Disposition::Transient, "{kind}: {error}");
    }
    for kind in [STAT, MKDIR, WRITE, RENAME] {
        let error = told(kind, |_| SILENCE.to_vec()).await;
        assert_eq!(error.disposition(), Disposition::Transient, "{kind}: {error}");
    }
}

/// A server that refuses is asked whether its disk is full; it may answer with anything but that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_talks_on_when_asked_for_its_free_space_is_not_listened_to() {
    let begun = Instant::now();
    let pushed = push(|asked| match asked.kind {
        INIT => Some(packet(2, 3, &[string(b"statvfs@openssh.com"), string(b"2")].concat())),
        OPEN => Some(status(asked.id, FAILURE)),
        EXTENDED => Some((0..1000).flat_map(|id| status(100_000 + id, 0)).collect()),
        // So that cleaning up takes no time either.
        REMOVE | CLOSE => None,
        _ => None,
    });
    let error = pushed.await.unwrap_err().to_string();
    assert!(error.contains("create `d/f`"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

//! SFTP servers that lie. The SSH beneath is honest: russh's server half.

use std::sync::Arc;

use russh::keys::{Algorithm, HashAlg, PrivateKey};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelMsg};
use xvault_connectors::source::{SftpSource, Source};
use xvault_connectors::ssh::SshOptions;
use xvault_connectors::{Error, PullSummary};
use xvault_core::secret::SecretString;
use xvault_core::{Dispose, Disposition, EntryKind, SshSettings, WarningCode};

use crate::ssh_support::Kept;

pub(crate) const OPEN: u8 = 3;
pub(crate) const CLOSE: u8 = 4;
const READ: u8 = 5;
const FSTAT: u8 = 8;
const OPENDIR: u8 = 11;
pub(crate) const READDIR: u8 = 12;
pub(crate) const REALPATH: u8 = 16;
const READLINK: u8 = 19;

const CONTENT: &[u8] = b"0123456789";
const EOF: u32 = 1;
/// An answer that is not sent.
pub(crate) const SILENCE: &[u8] = b"(silence)";

/// A request: its type, its id, and how many of that type came before.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) kind: u8,
    pub(crate) id: u32,
    pub(crate) nth: usize,
}

/// What to answer instead of the truth; `None` is the truth.
type Lie = Arc<dyn Fn(Asked) -> Option<Vec<u8>> + Send + Sync>;

pub(crate) fn packet(kind: u8, id: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 5).unwrap();
    [&len.to_be_bytes()[..], &[kind], &id.to_be_bytes(), body].concat()
}

pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

pub(crate) fn status(id: u32, code: u32) -> Vec<u8> {
    packet(101, id, &[&code.to_be_bytes()[..], &string(b"\x1b[31mred"), &string(b"")].concat())
}

pub(crate) fn attrs(size: u64, mode: u32) -> Vec<u8> {
    [&5_u32.to_be_bytes()[..], &size.to_be_bytes(), &mode.to_be_bytes()].concat()
}

fn data(id: u32, body: &[u8]) -> Vec<u8> {
    packet(103, id, &string(body))
}

pub(crate) fn names(id: u32, names: &[(&[u8], u32)]) -> Vec<u8> {
    let mut body = u32::try_from(names.len()).unwrap().to_be_bytes().to_vec();
    for (name, mode) in names {
        body.extend([string(name), string(b"long name"), attrs(10, *mode)].concat());
    }
    packet(104, id, &body)
}

const FILE: u32 = 0o100_644;
pub(crate) const DIR: u32 = 0o040_755;
const LINK: u32 = 0o120_777;

/// A directory that holds one file `f` of ten bytes.
fn truth(asked: Asked, body: &[u8]) -> Vec<u8> {
    let id = asked.id;
    match asked.kind {
        OPEN | OPENDIR => packet(102, id, &string(&[0, 0xff, 7])),
        CLOSE => status(id, 0),
        READ => {
            // Handle of three bytes, then the offset.
            let offset = usize::try_from(u64::from_be_bytes(body[7..15].try_into().unwrap())).unwrap();
            if offset < CONTENT.len() { data(id, &CONTENT[offset..]) } else { status(id, EOF) }
        }
        FSTAT => packet(105, id, &attrs(10, FILE)),
        READDIR if asked.nth == 0 => names(id, &[(b".", DIR), (b"f", FILE), (b"..", DIR)]),
        READDIR => status(id, EOF),
        REALPATH | READLINK => names(id, &[(b"/t", DIR)]),
        // STAT and LSTAT of the configured path.
        _ => packet(105, id, &attrs(0, DIR)),
    }
}

struct Server {
    lie: Lie,
    channel: Option<Channel<Msg>>,
}

impl Handler for Server {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn auth_password(&mut self, _: &str, _: &str) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channel = Some(channel);
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        _: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(id)?;
        tokio::spawn(serve(self.channel.take().unwrap(), self.lie.clone()));
        Ok(())
    }
}

async fn serve(mut channel: Channel<Msg>, lie: Lie) {
    let (mut input, mut counts) = (Vec::new(), [0_usize; 256]);
    while let Some(message) = channel.wait().await {
        let ChannelMsg::Data { data } = message else { continue };
        input.extend_from_slice(&data);
        while input.len() > 4 {
            let len = usize::try_from(u32::from_be_bytes(input[..4].try_into().unwrap())).unwrap();
            if input.len() < 4 + len {
                break;
            }
            let request: Vec<u8> = input.drain(..4 + len).skip(4).collect();
            let answer = answer(&request, &mut counts, &lie);
            if answer == SILENCE {
                continue;
            }
            // An empty answer hangs up.
            if answer.is_empty() {
                let _ = channel.close().await;
                return;
            }
            if channel.data_bytes(answer).await.is_err() {
                return;
            }
        }
    }
}

fn answer(request: &[u8], counts: &mut [usize; 256], lie: &Lie) -> Vec<u8> {
    let kind = request[0];
    let id = u32::from_be_bytes(request[1..5].try_into().unwrap());
    let asked = Asked { kind, id, nth: counts[usize::from(kind)] };
    counts[usize::from(kind)] += 1;
    lie(asked).unwrap_or_else(|| match kind {
        // The greeting has a version in place of an id.
        1 => packet(2, 3, &[]),
        _ => truth(asked, &request[5..]),
    })
}

/// A server that tells this lie, until the task is aborted, and how to log in there.
pub(crate) async fn liar(
    lie: impl Fn(Asked) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> (SshSettings, SshOptions, tokio::task::JoinHandle<()>) {
    let host_key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
    let fingerprint = host_key.public_key().fingerprint(HashAlg::Sha256).to_string();
    let config = Arc::new(Config { keys: vec![host_key], ..Config::default() });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let lie: Lie = Arc::new(lie);
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = Server { lie: lie.clone(), channel: None };
            if let Ok(session) = russh::server::run_stream(config.clone(), stream, server).await {
                tokio::spawn(session);
            }
        }
    });
    let settings = SshSettings {
        host: "127.0.0.1".into(),
        port,
        username: "any".into(),
        paths: vec!["/t".into()],
        use_password: true,
        excludes: vec![],
        host_key: Some(fingerprint),
        hooks: Default::default(),
    };
    let credential = xvault_connectors::ssh::SshCredential::Password(SecretString::from("p".to_owned()));
    let mut options = SshOptions::new(&settings, credential);
    options.timeouts.backoff = std::time::Duration::from_millis(1);
    options.timeouts.idle = std::time::Duration::from_secs(5);
    (settings, options, serving)
}

/// Pulls `/t` from a server that tells this lie.
async fn pull(
    lie: impl Fn(Asked) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> (Kept, Result<PullSummary, Error>) {
    let (settings, options, serving) = liar(lie).await;
    let mut kept = Kept::default();
    let mut source = SftpSource::new(&settings, options).unwrap();
    let pulled = source.pull(&mut kept, &xvault_connectors::Control::default()).await;
    serving.abort();
    (kept, pulled)
}

fn on(kind: u8, lie: impl Fn(Asked) -> Vec<u8>) -> impl Fn(Asked) -> Option<Vec<u8>> {
    move |asked| (asked.kind == kind).then(|| lie(asked))
}

#[tokio::test]
async fn the_honest_server_is_believed() {
    let (kept, pulled) = pull(|_| None).await;
    pulled.unwrap();
    let found: Vec<_> = kept.entries.iter().map(|(e, body)| (e.path.to_string(), body.as_slice())).collect();
    assert_eq!(found, [("t".to_owned(), &b""[..]), ("t/f".to_owned(), CONTENT)]);
    assert_eq!(kept.warnings, []);
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_pull_and_says_how() {
    type Case = (&'static str, u8, fn(Asked) -> Vec<u8>);
    let cases: [Case; 13] = [
        ("SFTP packet of 4294967295 bytes", READ, |_| vec![0xff; 64]),
        ("does a login script", READ, |_| b"Welcome to web01\n".to_vec()),
        ("SFTP packet of 0 bytes", READ, |_| vec![0; 64]),
        ("which was not asked", READ, |a| data(a.id + 1000, CONTENT)),
        ("5000 bytes where 11 were asked for", READ, |a| data(a.id, &[0; 5000])),
        ("0 bytes where 11 were asked for", READ, |a| data(a.id, b"")),
        ("READ was answered with something else", READ, |a| packet(102, a.id, &string(b"h"))),
        ("unknown type 77", OPEN, |a| packet(77, a.id, b"")),
        ("a handle longer than 256 bytes", OPEN, |a| packet(102, a.id, &string(&[b'h'; 300]))),
        ("too short", READDIR, |a| packet(104, a.id, &[&u32::MAX.to_be_bytes()[..], &string(b"f")].concat())),
        ("READDIR brought no names", READDIR, |a| names(a.id, &[])),
        ("too many extended attributes", FSTAT, |a| {
            packet(105, a.id, &[&0x8000_0000_u32.to_be_bytes()[..], &u32::MAX.to_be_bytes()].concat())
        }),
        ("version 6", 1, |_| packet(2, 6, &[])),
    ];
    for (expected, kind, lie) in cases {
        let (_, pulled) = pull(on(kind, lie)).await;
        let error = pulled.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{expected}: {error:?}");
        assert_eq!(error.disposition(), Disposition::Permanent);
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
}

#[tokio::test]
async fn lies_about_sizes_are_cut_padded_or_refused() {
    let claims = |size: u64| on(FSTAT, move |a| packet(105, a.id, &attrs(size, FILE)));

    let (kept, pulled) = pull(claims(1000)).await;
    pulled.unwrap();
    let body = &kept.entries[1].1;
    assert_eq!((body.len(), &body[..10], &body[990..]), (1000, CONTENT, &[0; 10][..]));
    assert_eq!(kept.warnings[0].code, WarningCode::Shrunk);

    let (kept, pulled) = pull(claims(4)).await;
    pulled.unwrap();
    assert_eq!(kept.entries[1].1, CONTENT[..4]);
    assert_eq!(kept.warnings[0].code, WarningCode::Grew);

    let (_, pulled) = pull(claims(u64::MAX)).await;
    let error = pulled.unwrap_err();
    assert!(matches!(error, Error::Incomplete(_)), "{error:?}");
}

#[tokio::test]
async fn short_reads_and_a_file_that_turned_into_a_pipe_are_survived() {
    // One byte at a time, whatever is asked: the rest is asked for again.
    let trickle = |asked: Asked| (asked.kind == READ && asked.nth < 1).then(|| data(asked.id, b"0"));
    let (kept, pulled) = pull(trickle).await;
    pulled.unwrap();
    assert_eq!((kept.entries[1].1.as_slice(), kept.warnings.len()), (CONTENT, 0));

    let (kept, pulled) = pull(on(FSTAT, |a| packet(105, a.id, &attrs(10, 0o010_644)))).await;
    pulled.unwrap();
    assert_eq!((kept.entries.len(), kept.warnings[0].code), (1, WarningCode::Other));
}

#[tokio::test]
async fn refusals_become_warnings_without_control_characters() {
    let (kept, pulled) = pull(on(OPEN, |a| status(a.id, 4))).await;
    pulled.unwrap();
    assert_eq!(kept.entries.len(), 1);
    assert!(!kept.warnings[0].message.contains('\x1b'), "{:?}", kept.warnings);

    // Content that can't be read from the first byte on is no entry at all.
    let (kept, pulled) = pull(on(READ, |a| status(a.id, 4))).await;
    pulled.unwrap();
    assert_eq!((kept.entries.len(), kept.warnings[0].code), (1, WarningCode::Unreadable));
}

#[tokio::test]
async fn a_listing_that_fails_half_way_is_no_backup() {
    let lie = |asked: Asked| (asked.kind == READDIR && asked.nth == 1).then(|| status(asked.id, 4));
    let (_, pulled) = pull(lie).await;
    let error = pulled.unwrap_err();
    assert!(matches!(error, Error::Incomplete(_)) && error.to_string().contains("`/t`"), "{error:?}");
}

#[tokio::test]
async fn names_that_could_escape_are_warnings_and_never_entries() {
    let bad: [(&[u8], u32); 7] = [
        (b"../evil", FILE),
        (b"a/b", FILE),
        (b"", FILE),
        (b"x\0y", FILE),
        (b"/etc", DIR),
        (b"f", FILE),
        (b"f", FILE),
    ];
    let lie = move |asked: Asked| (asked.kind == READDIR && asked.nth == 0).then(|| names(asked.id, &bad));
    let (kept, pulled) = pull(lie).await;
    pulled.unwrap();
    let paths: Vec<_> = kept.entries.iter().map(|(entry, _)| entry.path.to_string()).collect();
    assert_eq!(paths, ["t", "t/f"]);
    assert_eq!(kept.codes().iter().filter(|(code, _)| *code == WarningCode::BadName).count(), 6);
}

#[tokio::test]
async fn an_endless_listing_is_given_up_whatever_it_lists() {
    let long = Arc::new("y/".repeat(1000));
    type Naming = Arc<dyn Fn(usize) -> (Vec<u8>, u32) + Send + Sync>;
    let cases: [(&str, Naming); 5] = [
        ("dots", Arc::new(|_| (b".".to_vec(), DIR))),
        ("bad names", Arc::new(move |_| (long.as_bytes().to_vec(), FILE))),
        ("files", Arc::new(|number| (format!("{number:08}").into_bytes(), FILE))),
        ("directories", Arc::new(|number| (format!("{number:08}").into_bytes(), DIR))),
        ("one name", Arc::new(|_| (b"f".to_vec(), FILE))),
    ];
    for (what, name) in cases {
        let lie = on(READDIR, move |asked| {
            let some: Vec<_> = (0..1000).map(|number| name(asked.nth * 1000 + number)).collect();
            let some: Vec<_> = some.iter().map(|(name, mode)| (name.as_slice(), *mode)).collect();
            // As many as one packet takes.
            let room = 200_000 / (some[0].0.len() + 40);
            names(asked.id, &some[..room.min(1000)])
        });
        let started = std::time::Instant::now();
        let (kept, pulled) = pull(lie).await;
        let error = pulled.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{what}: {error:?}");
        assert!(error.to_string().contains("with `/t` its listings take more than"), "{what}: {error}");
        assert!(kept.entries.len() <= 1, "{what}");
        assert!(started.elapsed() < std::time::Duration::from_secs(30), "{what}: {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn endless_listings_below_each_other_share_one_bound() {
    // Each directory lists 20,000 files and, at the very front, one directory more.
    let lie = |asked: Asked| {
        if asked.kind != READDIR {
            return None;
        }
        let files: Vec<_> =
            (0..1000).map(|number| format!("{:04}-{number:04}", asked.nth).into_bytes()).collect();
        let mut some: Vec<_> = files.iter().map(|name| (name.as_slice(), FILE)).collect();
        some.push((b"!", DIR));
        Some(if asked.nth % 21 == 20 { status(asked.id, EOF) } else { names(asked.id, &some) })
    };
    let (_, pulled) = pull(lie).await;
    let error = pulled.unwrap_err().to_string();
    assert!(error.contains("its listings take more than"), "{error}");
    assert!(error.contains("/t/!/!"), "{error}");
}

#[tokio::test]
async fn more_than_is_listed_ahead_waits_for_its_turn() {
    let dirs: Vec<Vec<u8>> = (0..60).map(|number| format!("d{number:02}").into_bytes()).collect();
    let lie = move |asked: Asked| {
        let pipes: Vec<_> = (0..1000).map(|number| format!("{}-{number}", asked.nth).into_bytes()).collect();
        let some = |some: &[Vec<u8>], mode| {
            names(asked.id, &some.iter().map(|name| (name.as_slice(), mode)).collect::<Vec<_>>())
        };
        match asked.nth {
            _ if asked.kind != READDIR => None,
            0 => Some(some(&dirs, DIR)),
            1 => None,
            // Several times what may lie ahead, spread over the directories as they ask.
            2..202 => Some(some(&pipes, 0o010_644)),
            _ => Some(status(asked.id, EOF)),
        }
    };
    let (kept, pulled) = pull(lie).await;
    let content = pulled.unwrap().content;
    assert_eq!((content.directories, content.skipped), (61, 200_000));
    assert_eq!(kept.warnings, []);
}

#[tokio::test]
async fn of_many_bad_names_the_first_are_told_and_the_others_counted() {
    let bad: Vec<Vec<u8>> = (0..5000).map(|number| format!("a/{number}").into_bytes()).collect();
    let lie = move |asked: Asked| {
        let bad: Vec<_> = bad.iter().map(|name| (name.as_slice(), FILE)).collect();
        (asked.kind == READDIR && asked.nth == 0).then(|| names(asked.id, &bad))
    };
    let (kept, pulled) = pull(lie).await;
    pulled.unwrap();
    assert_eq!(kept.warnings.len(), 101);
    assert_eq!(kept.warnings[100].message, "4900 more names can't be kept");
    assert!(kept.warnings.iter().all(|warning| warning.code == WarningCode::BadName));
}

#[tokio::test]
async fn a_directory_that_holds_itself_ends_with_the_longest_path() {
    let name = [b'd'; 200];
    let lie = move |asked: Asked| match asked.kind {
        // Two are asked for at once: a name and the end, for every directory.
        READDIR if asked.nth.is_multiple_of(2) => Some(names(asked.id, &[(&name, DIR)])),
        READDIR => Some(status(asked.id, EOF)),
        _ => None,
    };
    let (kept, pulled) = pull(lie).await;
    pulled.unwrap();
    assert_eq!(kept.entries.len(), 1 + 4094 / 201);
    assert_eq!(kept.warnings[0].code, WarningCode::BadName);
}

#[tokio::test]
async fn types_that_are_not_listed_are_asked_for() {
    // No attributes at all: flags 0.
    let bare = |id: u32| {
        let body = [&1_u32.to_be_bytes()[..], &string(b"f"), &string(b""), &0_u32.to_be_bytes()].concat();
        packet(104, id, &body)
    };
    let lie = move |asked: Asked| match (asked.kind, asked.nth) {
        (READDIR, 0) => Some(bare(asked.id)),
        (7, _) => Some(packet(105, asked.id, &attrs(10, FILE))),
        _ => None,
    };
    let (kept, pulled) = pull(lie).await;
    pulled.unwrap();
    assert_eq!(kept.entries[1].0.kind, EntryKind::File { size: 10 });
    assert_eq!(kept.entries[1].1, CONTENT);
}

#[tokio::test]
async fn links_to_nothing_are_warnings() {
    for target in [&b""[..], b"a\0b", &[b'x'; 5000]] {
        let lie = move |asked: Asked| match (asked.kind, asked.nth) {
            (READDIR, 0) => Some(names(asked.id, &[(b"l", LINK)])),
            (READLINK, _) => Some(names(asked.id, &[(target, LINK)])),
            _ => None,
        };
        let (kept, pulled) = pull(lie).await;
        pulled.unwrap();
        assert_eq!((kept.entries.len(), kept.warnings[0].code), (1, WarningCode::BadName));
    }
}

#[tokio::test]
async fn a_server_that_always_hangs_up_is_given_up_as_transient() {
    let (_, pulled) = pull(on(READ, |_| Vec::new())).await;
    let error = pulled.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Transient, "{error:?}");
}

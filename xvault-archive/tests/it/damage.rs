//! Damage × file × operation: an error that names the file, or exactly the right answer. Never anything else.

use std::fs;
use std::io::{Cursor, Read};
use std::sync::LazyLock;

use xvault_archive::{ArchiveReader, Error, ExtractOptions, Watch, export, extract, verify};
use xvault_core::snapshot::{
    Completeness, ContentSummary, Evidence, FORMAT_VERSION, Manifest, ReadBack, ReadBackReport,
};
use xvault_core::{Dispose, Disposition, ExportFormat, Identity};

use crate::export::assert_not_whole;
use crate::support::{Archive, Item, file, noise, oddities, path, small, stream, write, write_with};
use crate::tree::names;

static SOUND: LazyLock<(Archive, Vec<Item>)> = LazyLock::new(|| {
    let mut items: Vec<Item> = oddities().into_iter().filter(|(e, _)| e.path.name() != b"huge-ids").collect();
    items.push(file("srv/last", noise(100_000, 9)));
    (write(&items), items)
});

/// The manifest that a backup would have written.
fn manifest(archive: &Archive) -> Manifest {
    let (recipient, stats) = (archive.identity.recipient(), &archive.stats);
    Manifest {
        format_version: FORMAT_VERSION,
        tenant_id: archive.key.tenant_id.clone(),
        source_id: archive.key.source_id.clone(),
        snapshot_id: archive.key.snapshot_id.clone(),
        job_id: xvault_core::JobId::generate(),
        worker_id: "worker-1".parse().unwrap(),
        source_type: "local".into(),
        started_at: "2026-11-24T10:00:00Z".parse().unwrap(),
        finished_at: "2026-11-24T10:00:01Z".parse().unwrap(),
        duration_ms: 1000,
        size_bytes: stats.artifact.size_bytes,
        sha256: stats.artifact.sha256.clone(),
        encryption_algorithm: xvault_core::seal::ALGORITHM.into(),
        encryption_key_id: recipient.key_id(),
        encryption_recipient: recipient.clone(),
        encryption_recipients: vec![recipient.clone()],
        index_recipients: vec![recipient],
        artifact: stats.artifact.clone(),
        index: stats.index.clone(),
        tar_size_bytes: stats.tar_size_bytes,
        compressed_size_bytes: stats.compressed_size_bytes,
        completeness: Completeness::Whole,
        tags: Vec::new(),
        content_summary: stats.content,
        evidence: Evidence::Walk { directories: 0, files: 0 },
        read_back: ReadBackReport { mode: ReadBack::Off, entries: 0, frames: 0, bytes: 0 },
        xvault_version: "0.1.0".into(),
        checksum: String::new(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    List,
    Cat,
    Extract,
    Export(ExportFormat),
    Quick,
    Deep,
}

const OPERATIONS: [Operation; 8] = [
    Operation::List,
    Operation::Cat,
    Operation::Extract,
    Operation::Export(ExportFormat::Tar),
    Operation::Export(ExportFormat::TarZst),
    Operation::Export(ExportFormat::Zip),
    Operation::Quick,
    Operation::Deep,
];

/// What an operation gives out, to be compared with what it gives for the sound archive.
fn operate(operation: Operation, archive: &Archive) -> Result<Vec<u8>, Error> {
    let manifest = manifest(&SOUND.0);
    let open = || {
        let reader = archive.open_ahead()?;
        reader.expect_key(&manifest.key()).map(|()| reader)
    };
    let mut out = Vec::new();
    match operation {
        Operation::List => {
            for entry in open()?.entries()? {
                out.extend_from_slice(format!("{:?}\n", entry?).as_bytes());
            }
        }
        Operation::Cat => {
            for name in ["srv/hello.txt", "srv/long.sql", "srv/last"] {
                let mut reader = open()?;
                let mut body = reader.read(&path(name))?;
                while let Some(chunk) = body.next_chunk()? {
                    out.extend_from_slice(&chunk);
                }
            }
        }
        Operation::Extract => return extract_all(archive, &manifest),
        Operation::Export(format) => {
            let exported =
                open().and_then(|mut reader| export(&mut reader, format, &[], &mut out, &Watch::default()));
            if let Err(error) = exported {
                assert_not_whole(format, &out);
                return Err(error);
            }
        }
        Operation::Quick => verify::quick(&*archive.artifact, &*archive.index, &manifest, &Watch::default())?,
        Operation::Deep => {
            let report = verify::deep(&mut open()?, &Watch::default())?;
            report.check_manifest(&manifest)?;
            report.check_stats(&SOUND.0.stats)?;
        }
    }
    Ok(out)
}

/// Extracts; whatever the result, every file that is there is a whole one, and nothing is beside the target.
fn extract_all(archive: &Archive, manifest: &Manifest) -> Result<Vec<u8>, Error> {
    let sandbox = tempfile::tempdir().unwrap();
    let target = sandbox.path().join("target");
    let result = archive.open_ahead().and_then(|mut reader| {
        reader.expect_key(&manifest.key())?;
        extract(&mut reader, &target, &ExtractOptions::default())
    });
    let found = names(sandbox.path());
    assert!(found.iter().all(|name| name.starts_with(b"target")), "something is beside the target");
    for (entry, body) in SOUND.1.iter().filter(|(entry, _)| entry.has_body()) {
        if let Ok(content) = fs::read(crate::tree::place(&target, entry.path.as_bytes())) {
            assert!(content == *body, "{} is half a file", entry.path);
        }
    }
    result.map(|_| found.join(&b'\n'))
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 0x10;
    bytes
}

/// Damages of one file, each with its name.
fn damages(sound: &[u8], other: &[u8]) -> Vec<(String, Vec<u8>)> {
    let len = sound.len();
    let mut damages = vec![("deleted".into(), Vec::new()), ("swapped".into(), other.to_vec())];
    // In the header; before, at and after chunk borders; the last byte.
    for at in [1, 100, len / 3, len / 2, len - 65_552.min(len / 4), len - 17, len - 1] {
        damages.push((format!("cut at {at} of {len}"), sound[..at].to_vec()));
        damages.push((format!("flipped at {at} of {len}"), flipped(sound, at)));
    }
    damages.push(("longer".into(), [sound, b"x"].concat()));
    damages
}

fn check_matrix(name: &str, damaged: impl Fn(Vec<u8>) -> Archive, variants: Vec<(String, Vec<u8>)>) {
    for (damage, bytes) in variants {
        let archive = damaged(bytes);
        for operation in OPERATIONS {
            let context = format!("{operation:?} with {name} {damage}");
            match operate(operation, &archive) {
                Ok(answer) => {
                    assert!(
                        !matches!(operation, Operation::Quick | Operation::Deep),
                        "{context}: not noticed"
                    );
                    assert!(answer == operate(operation, &SOUND.0).unwrap(), "{context}: a wrong answer");
                }
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains(name) || damage == "swapped", "{context}: {text}");
                    assert!(text.contains(".enc"), "{context}: {text}");
                    assert_eq!(error.disposition(), Disposition::Permanent, "{context}: {text}");
                }
            }
        }
    }
}

/// Another snapshot for the same recipient.
fn another() -> Archive {
    let identity = SOUND.0.identity.clone();
    write_with(&[file("srv/hello.txt", noise(400_000, 7))], small(&identity), identity)
}

#[test]
fn the_sound_archive_passes_everything() {
    for operation in OPERATIONS {
        operate(operation, &SOUND.0).unwrap_or_else(|e| panic!("{operation:?}: {e}"));
    }
}

#[test]
fn a_damaged_artifact_is_named_by_whatever_reads_it() {
    let variants = damages(&SOUND.0.artifact, &another().artifact);
    check_matrix("backup.tar.zst.enc", |artifact| Archive { artifact, ..SOUND.0.clone() }, variants);
}

#[test]
fn a_damaged_index_is_named_by_whatever_reads_it() {
    let variants = damages(&SOUND.0.index, &another().index);
    check_matrix("index.zst.enc", |index| Archive { index, ..SOUND.0.clone() }, variants);
}

#[test]
fn a_swapped_index_is_refused_by_its_snapshot_id() {
    let swapped = Archive { index: another().index, ..SOUND.0.clone() };
    let error = operate(Operation::List, &swapped).unwrap_err();
    assert!(matches!(error, Error::Mismatch { what: "the snapshot it belongs to", .. }), "{error}");
}

#[test]
fn a_stranger_is_told_that_the_key_is_wrong() {
    let stranger = Archive { identity: Identity::generate(), ..SOUND.0.clone() };
    let error = operate(Operation::List, &stranger).unwrap_err();
    assert!(matches!(error, Error::WrongIdentity { .. }), "{error}");
}

#[test]
fn the_index_can_have_readers_of_its_own() {
    let (both, names_only) = (Identity::generate(), Identity::generate());
    let mut options = small(&both);
    options.index_recipients = vec![both.recipient(), names_only.recipient()];
    let archive = write_with(&[file("a", "content")], options, names_only.clone());
    let index = Cursor::new(archive.index.clone());
    let mut index = xvault_archive::ArchiveIndex::open(index, &[names_only]).unwrap();
    assert_eq!(index.entries().unwrap().count(), 1);
    let error = archive.open().map(|_| ()).unwrap_err();
    assert!(error.to_string().starts_with("backup.tar.zst.enc is encrypted to other keys"), "{error}");
}

/// A reader that fails like a dropped connection.
struct Failing(Cursor<Vec<u8>>, u64);

impl Read for Failing {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.0.position() >= self.1 {
            return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        }
        self.0.read(buf)
    }
}

impl std::io::Seek for Failing {
    fn seek(&mut self, pos: std::io::SeekFrom) -> std::io::Result<u64> {
        self.0.seek(pos)
    }
}

#[test]
fn a_failing_store_is_no_damage() {
    let sound = &SOUND.0;
    let identities = [sound.identity.clone()];
    for (artifact_fails, index_fails) in [(10, u64::MAX), (u64::MAX, 10), (u64::MAX, 400)] {
        let artifact = Failing(Cursor::new(sound.artifact.clone()), artifact_fails);
        let index = Failing(Cursor::new(sound.index.clone()), index_fails);
        let result = ArchiveReader::open(artifact, index, &identities)
            .and_then(|mut reader| verify::deep(&mut reader, &Watch::default()));
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Io { op: "read", .. }), "{error}");
        assert_eq!(error.disposition(), Disposition::Transient);
    }
}

#[test]
fn deep_and_sample_count_what_they_compared() {
    let sound = &SOUND.0;
    let report = verify::deep(&mut sound.reader(), &Watch::default()).unwrap();
    assert_eq!((report.entries, report.frames), (sound.stats.entries, sound.stats.frames));
    assert_eq!(
        (report.bytes, report.content_digest),
        (sound.stats.tar_size_bytes, sound.stats.content_digest)
    );

    let frames = verify::sample_frames(sound.stats.frames, 5, 42);
    assert!(frames.contains(&0) && frames.contains(&(sound.stats.frames - 1)) && frames.len() <= 7);
    let sample = verify::sample(&mut sound.reader(), &frames, &Watch::default()).unwrap();
    assert_eq!(sample.frames, frames.len() as u64);
    assert!(sample.entries > 0 && sample.entries < report.entries);
    let all = (0..sound.stats.frames).collect();
    assert_eq!(verify::sample(&mut sound.reader(), &all, &Watch::default()).unwrap(), report);
    let beyond = [sound.stats.frames].into();
    assert!(verify::sample(&mut sound.reader(), &beyond, &Watch::default()).is_err());
    assert_eq!(verify::sample_frames(0, 5, 1).len(), 0);
}

#[test]
fn read_back_notices_another_index_that_is_sound_in_itself() {
    let identity = Identity::generate();
    let items = |body: &str| vec![file("a", body), stream("b", body)];
    let one = write_with(&items("one"), small(&identity), identity.clone());
    let two = write_with(&items("two"), small(&identity), identity);
    let report = verify::deep(&mut two.reader(), &Watch::default()).unwrap();
    report.check_stats(&two.stats).unwrap();
    let error = report.check_stats(&one.stats).unwrap_err();
    assert!(matches!(error, Error::Mismatch { what: "its content digest", .. }), "{error}");
    let mut wrong = manifest(&two);
    wrong.content_summary = ContentSummary { files: 3, ..wrong.content_summary };
    let error = report.check_manifest(&wrong).unwrap_err();
    assert!(matches!(error, Error::Mismatch { what: "its content summary", .. }), "{error}");
}

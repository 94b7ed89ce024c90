//! The writer when things go wrong: broken grammar, full disks, a writer that is dropped.

use std::future::Future;
use std::io::{self, Cursor, Write};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use xvault_archive::{ArchiveFile, ArchiveReader, ArchiveWriter, Error, WriterOptions};
use xvault_core::{Dispose, Disposition, EntrySink, Identity, Warning, WarningCode};

use crate::support::{dir, file, hardlink, key, noise, path, push, small, stream, symlink};

type Writer = ArchiveWriter<Vec<u8>, Vec<u8>>;

fn writer() -> Writer {
    ArchiveWriter::new(Vec::new(), Vec::new(), small(&Identity::generate())).unwrap()
}

type Breach<'a> = Box<dyn FnOnce(&mut Writer) -> Result<(), Error> + 'a>;

/// Breaks the grammar; afterwards every call must fail.
fn misused(break_it: impl FnOnce(&mut Writer) -> Result<(), Error>) -> Error {
    let mut writer = writer();
    let error = break_it(&mut writer).unwrap_err();
    assert!(matches!(writer.begin(&dir("later").0), Err(Error::Failed)));
    assert!(matches!(writer.write(b"x"), Err(Error::Failed)));
    assert!(matches!(writer.end(), Err(Error::Failed)));
    assert!(matches!(writer.finish(), Err(Error::Failed | Error::Misuse("finish within a body"))));
    error
}

#[test]
fn every_breach_of_the_grammar_is_refused_and_final() {
    let (five, body) = file("f", "12345");
    let breaches: [(&str, Breach<'_>); 8] = [
        ("data outside a body", Box::new(|w| w.write(b"x"))),
        ("end outside a body", Box::new(ArchiveWriter::end)),
        ("begin within a body", Box::new(|w| w.begin(&file("f", "x").0).and_then(|()| w.begin(&dir("d").0)))),
        ("data beyond a file's size", Box::new(|w| w.begin(&five).and_then(|()| w.write(b"123456")))),
        (
            "a file ended before its size",
            Box::new(|w| {
                w.begin(&file("f", "12345").0)?;
                w.write(&body[..4])?;
                w.end()
            }),
        ),
        ("data outside a body", Box::new(|w| w.begin(&dir("d").0).and_then(|()| w.write(b"x")))),
        ("a hard link to itself", Box::new(|w| w.begin(&hardlink("h", "h").0))),
        ("a link's target", Box::new(|w| w.begin(&symlink("l", "").0))),
    ];
    for (what, breach) in breaches {
        let error = misused(breach);
        assert!(matches!(&error, Error::Misuse(reason) if reason.contains(what)), "{what}: {error}");
    }
    let error = misused(|w| w.begin(&dir("d").0).and_then(|()| w.begin(&symlink("d", "x").0)));
    assert!(matches!(&error, Error::Duplicate { path } if path.as_bytes() == b"d"), "{error}");
}

#[test]
fn an_open_body_can_not_be_finished() {
    let mut writer = writer();
    writer.begin(&file("f", "x").0).unwrap();
    assert!(matches!(writer.finish(), Err(Error::Misuse("finish within a body"))));
}

#[test]
fn impossible_options_are_named() {
    let identity = Identity::generate();
    let sound = || small(&identity);
    let options = [
        ("frame_size", WriterOptions { frame_size: 100, ..sound() }),
        ("frame_size", WriterOptions { frame_size: 65 << 20, ..sound() }),
        ("segment_size", WriterOptions { segment_size: 0, ..sound() }),
        ("level", WriterOptions { level: 99, ..sound() }),
    ];
    for (name, options) in options {
        let error = ArchiveWriter::new(Vec::new(), Vec::new(), options).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Option { option, .. } if option == name), "{error}");
    }
    let nobody = WriterOptions::new(key(), Vec::new());
    assert!(matches!(ArchiveWriter::new(Vec::new(), Vec::new(), nobody), Err(Error::Key(_))));
}

/// Takes so many bytes, then the disk is full.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(buf.len()).ok_or(io::ErrorKind::StorageFull)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes noise until the writer says no.
fn fill<W: Write + Send + 'static, I: Write + Send + 'static>(mut writer: ArchiveWriter<W, I>) -> Error {
    for at in 0..2000 {
        let (entry, body) = file(format!("file-{at}"), noise(20_000, 1));
        let pushed = writer.begin(&entry).and_then(|()| writer.write(&body)).and_then(|()| writer.end());
        if let Err(error) = pushed {
            assert!(matches!(writer.end(), Err(Error::Failed)));
            return error;
        }
    }
    writer.finish().map(|_| ()).unwrap_err()
}

#[test]
fn a_full_disk_is_reported_as_such() {
    let options = || small(&Identity::generate());
    // The header, the first chunks, the middle.
    for room in [10, 100_000, 1_000_000] {
        let error = match ArchiveWriter::new(Full(room), Vec::new(), options()) {
            Ok(writer) => fill(writer),
            Err(error) => error,
        };
        assert!(
            matches!(error, Error::Io { op: "write", file: ArchiveFile::Artifact, .. }),
            "{room}: {error}"
        );
        assert_eq!(error.disposition(), Disposition::Transient);
    }
    for room in [10, 1000] {
        let error = match ArchiveWriter::new(Vec::new(), Full(room), options()) {
            Ok(writer) => fill(writer),
            Err(error) => error,
        };
        assert!(matches!(error, Error::Io { op: "write", file: ArchiveFile::Index, .. }), "{room}: {error}");
    }
    // A disk that fills with the very last chunk.
    let mut writer = ArchiveWriter::new(Full(1000), Vec::new(), options()).unwrap();
    writer.begin(&dir("d").0).unwrap();
    writer.begin(&file("f", noise(5000, 1)).0).unwrap();
    writer.write(&noise(5000, 1)).unwrap();
    writer.end().unwrap();
    let error = writer.finish().map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Io { op: "write", file: ArchiveFile::Artifact, .. }), "{error}");
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_dropped_writer_never_leaves_what_looks_complete() {
    for count in [0, 1, 30] {
        let identity = Identity::generate();
        let (artifact, index) = (Shared::default(), Shared::default());
        let mut writer = ArchiveWriter::new(artifact.clone(), index.clone(), small(&identity)).unwrap();
        for at in 0..count {
            let (entry, body) = file(format!("f{at}"), noise(10_000, at));
            writer.begin(&entry).unwrap();
            writer.write(&body).unwrap();
            writer.end().unwrap();
        }
        drop(writer);
        // The threads are gone: nobody else holds the buffers.
        assert_eq!((Arc::strong_count(&artifact.0), Arc::strong_count(&index.0)), (1, 1));
        let read = |shared: &Shared| Cursor::new(shared.0.lock().unwrap().clone());
        let opened = ArchiveReader::open(read(&artifact), read(&index), std::slice::from_ref(&identity));
        let error = opened.map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Truncated { .. }), "{error}");
        let index = xvault_archive::ArchiveIndex::open(read(&index), &[identity]);
        let error = index.and_then(|mut index| index.totals()).unwrap_err();
        assert!(matches!(error, Error::Truncated { .. }), "{error}");
    }
}

/// The writer blocks, so its futures are ready at once.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the writer's future is not ready"),
    }
}

#[test]
fn it_is_a_sink_for_sources() {
    let mut writer = writer();
    {
        let sink: &mut dyn EntrySink = &mut writer;
        ready(sink.begin(stream("dump.sql", "").0)).unwrap();
        ready(sink.data(Bytes::from_static(b"SELECT 1;"))).unwrap();
        let warning = Warning { path: path("x"), code: WarningCode::Vanished, message: "w".repeat(5000) };
        ready(sink.warning(warning)).unwrap();
        ready(sink.end()).unwrap();
        let error = ready(sink.end()).unwrap_err();
        assert_eq!(error.disposition(), Disposition::Permanent);
        assert_eq!(
            xvault_core::error::chain(&error),
            "write the archive: wrong use of the archive writer: end outside a body"
        );
    }
    assert_eq!((writer.content().files, writer.content().bytes, writer.content().warnings), (1, 9, 1));
}

#[test]
fn warnings_alone_do_not_pile_up_and_come_back() {
    let identity = Identity::generate();
    let mut writer = ArchiveWriter::new(Vec::new(), Vec::new(), small(&identity)).unwrap();
    for at in 0..5000 {
        let message = format!("warning {at} {}", "x".repeat(100));
        writer.warning(&Warning { path: path("p"), code: WarningCode::Other, message }).unwrap();
    }
    push(&mut writer, &[dir("d")]);
    writer.skipped(7);
    let finished = writer.finish().unwrap();
    assert_eq!((finished.stats.content.warnings, finished.stats.content.skipped), (5000, 7));
    let index = Cursor::new(finished.index);
    let mut index = xvault_archive::ArchiveIndex::open(index, &[identity]).unwrap();
    let warnings: Vec<_> = index.warnings().unwrap().map(Result::unwrap).collect();
    assert_eq!(warnings.len(), 5000);
    assert!(warnings[4999].message.starts_with("warning 4999 "));
    assert_eq!(index.totals().unwrap().content.skipped, 7);
}

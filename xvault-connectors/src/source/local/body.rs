//! Reads a file in chunks.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, read};

use super::events::{Event, Outbox};
use crate::Error;

const CHUNK_LEN: u64 = 256 * 1024;

/// How reading a body ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// At the file's end, or behind the size it had at first.
    Read,
    /// At an error.
    Broken(io::Error),
}

/// Hands on the content of `file`, which was found with `size` bytes, and at most one byte more:
/// that byte tells the emitter that the file grew, and a missing one that it shrank.
///
/// # Errors
/// When nobody listens any more.
pub(super) fn hand_on(file: &File, size: u64, outbox: &mut Outbox) -> Result<Ending, Error> {
    if size > CHUNK_LEN {
        // Only a hint: a file system that does not take it reads as well.
        let _ = fadvise(file.as_fd(), 0, None, Advice::Sequential);
    }
    let mut left = size;
    while left > 0 {
        // Room for one byte more than promised: a read that leaves it free has seen the end of the file.
        let room = if left > CHUNK_LEN { CHUNK_LEN } else { left + 1 };
        let chunk = match read_once(file, usize::try_from(room).unwrap_or(usize::MAX)) {
            Ok(chunk) if chunk.is_empty() => return Ok(Ending::Read),
            Ok(chunk) => chunk,
            Err(error) => return Ok(Ending::Broken(error)),
        };
        left = left.saturating_sub(chunk.len() as u64);
        outbox.push(Event::Data(Bytes::from(chunk)))?;
    }
    Ok(Ending::Read)
}

fn read_once(file: &File, room: usize) -> io::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(room);
    loop {
        match read(file.as_fd(), spare_capacity(&mut chunk)) {
            Ok(_) => return Ok(chunk),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

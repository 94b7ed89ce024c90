//! Cuts the byte stream of a channel into SFTP packets, without copying bodies.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// The longest packet we take: the longest READ we ask for, and OpenSSH's own limit for listings.
const MAX_PACKET_LEN: usize = 256 * 1024 + 1024;

/// Bodies up to this size are copied out, so that a short file does not keep a whole SSH packet alive.
const COPY_LEN: usize = 2048;

/// The type of a packet whose body is left in pieces.
pub(super) const DATA: u8 = 103;

/// One packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// A reply to READ: its id and its content in pieces.
    Data(u32, Vec<Bytes>),
    /// Any other: its type and all that follows.
    Other(u8, Bytes),
}

/// What has arrived and is not yet a packet.
#[derive(Debug, Default)]
pub(super) struct Frames {
    pieces: VecDeque<Bytes>,
    len: usize,
}

impl Frames {
    /// Adds what a channel brought.
    pub(super) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// The next packet that is here whole.
    pub(super) fn next(&mut self) -> Result<Option<Packet>, String> {
        let Some(head) = self.peek() else { return Ok(None) };
        let len = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
        if len == 0 || len > MAX_PACKET_LEN {
            let hint = if head.is_ascii() && len > MAX_PACKET_LEN {
                "; does a login script on the server print text?"
            } else {
                ""
            };
            return Err(format!("an SFTP packet of {len} bytes{hint}"));
        }
        if self.len < 4 + len {
            return Ok(None);
        }
        self.skip(4);
        self.packet(len).map(Some)
    }

    fn packet(&mut self, len: usize) -> Result<Packet, String> {
        let kind = self.copy(1).get_u8();
        if kind != DATA {
            return Ok(Packet::Other(kind, self.copy(len - 1)));
        }
        if len < 9 {
            return Err("a DATA packet that is too short".into());
        }
        let mut head = self.copy(8);
        let (id, body_len) = (head.get_u32(), head.get_u32());
        if usize::try_from(body_len) != Ok(len - 9) {
            return Err(format!("{body_len} bytes of data in an SFTP packet of {len}"));
        }
        Ok(Packet::Data(id, self.split(len - 9)))
    }

    /// The first four bytes.
    fn peek(&self) -> Option<[u8; 4]> {
        let mut bytes = self.pieces.iter().flatten();
        Some([*bytes.next()?, *bytes.next()?, *bytes.next()?, *bytes.next()?])
    }

    fn skip(&mut self, len: usize) {
        self.take(len, |_| {});
    }

    /// `len` bytes in one piece.
    fn copy(&mut self, len: usize) -> Bytes {
        let mut whole = BytesMut::with_capacity(len);
        self.take(len, |piece| whole.extend_from_slice(&piece));
        whole.freeze()
    }

    /// `len` bytes in the pieces they came in.
    fn split(&mut self, len: usize) -> Vec<Bytes> {
        if len <= COPY_LEN {
            return vec![self.copy(len)];
        }
        let mut parts = Vec::with_capacity(self.pieces.len());
        self.take(len, |piece| parts.push(piece));
        parts
    }

    fn take(&mut self, mut len: usize, mut each: impl FnMut(Bytes)) {
        self.len -= len;
        while len > 0 {
            let Some(front) = self.pieces.front_mut() else { return };
            let piece = front.split_to(len.min(front.len()));
            len -= piece.len();
            if front.is_empty() {
                self.pieces.pop_front();
            }
            each(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn data(id: u32, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(body.len()).unwrap();
        let head = [&(len + 9).to_be_bytes()[..], &[DATA], &id.to_be_bytes(), &len.to_be_bytes()];
        [head.concat(), body.to_vec()].concat()
    }

    proptest! {
        #[test]
        fn packets_survive_any_cutting(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5000), 1..6),
            cut in 1_usize..4000,
        ) {
            let stream: Vec<u8> = (0..).zip(&bodies).flat_map(|(id, body)| data(id, body)).collect();
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            for piece in stream.chunks(cut) {
                frames.push(Bytes::copy_from_slice(piece));
                while let Some(packet) = frames.next().unwrap() {
                    let Packet::Data(id, parts) = packet else { panic!("{packet:?}") };
                    prop_assert_eq!(usize::try_from(id).unwrap(), seen.len());
                    seen.push(parts.concat());
                }
            }
            prop_assert_eq!(seen, bodies);
            prop_assert_eq!(frames.len, 0);
        }

        #[test]
        fn nonsense_never_panics(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..10)) {
            let mut frames = Frames::default();
            for piece in pieces {
                frames.push(piece.into());
                while let Ok(Some(_)) = frames.next() {}
            }
        }
    }

    #[test]
    fn text_of_a_login_script_is_recognised() {
        let mut frames = Frames::default();
        frames.push(Bytes::from_static(b"Welcome to web01!\n"));
        assert!(frames.next().unwrap_err().contains("login script"));
    }

    #[test]
    fn a_body_of_another_length_than_its_packet_is_refused() {
        let mut packet = data(1, b"abc");
        packet[12] = 200;
        let mut frames = Frames::default();
        frames.push(packet.into());
        assert!(frames.next().unwrap_err().contains("200 bytes of data"));
    }
}

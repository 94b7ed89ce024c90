//! A connection for one transfer, and the port that the server names for it.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::FtpOptions;
use super::control::Wire;
use crate::Error;

/// What one transfer brings.
pub(crate) struct Data {
    stream: Box<dyn Wire>,
    encrypted: bool,
    server: String,
    idle: Duration,
    /// Whether an encrypted connection ended as TLS asks for, so that nobody can have cut it.
    ended_well: bool,
}

impl Data {
    pub(super) fn new(stream: Box<dyn Wire>, encrypted: bool, options: &FtpOptions) -> Self {
        let idle = options.timeouts.idle;
        Self { stream, encrypted, server: options.server(), idle, ended_well: true }
    }

    /// Reads more behind what is in `buffer`; 0 at the end.
    pub(crate) async fn read(&mut self, buffer: &mut BytesMut) -> Result<usize, Error> {
        match timeout(self.idle, self.stream.read_buf(buffer)).await {
            Ok(Ok(len)) => Ok(len),
            Ok(Err(error)) if self.encrypted && error.kind() == io::ErrorKind::UnexpectedEof => {
                self.ended_well = false;
                Ok(0)
            }
            Ok(Err(error)) => Err(lost(&self.server, Some(error))),
            Err(_) => {
                let what = format!("{} (a data connection)", self.server);
                Err(Error::Timeout { what, after: self.idle })
            }
        }
    }

    /// Says goodbye. Whether nobody can have cut it short.
    pub(crate) async fn close(mut self) -> bool {
        let _ = timeout(Duration::from_secs(2), self.stream.shutdown()).await;
        self.ended_well
    }
}

/// A data connection that is lost.
pub(super) fn lost(server: &str, source: Option<io::Error>) -> Error {
    let reason = "the server dropped a data connection".to_owned();
    Error::Connection { server: server.to_owned(), reason, source }
}

/// The port in the answer to EPSV: `229 Entering Extended Passive Mode (|||6446|)`.
pub(super) fn extended_port(text: &[u8]) -> Option<u16> {
    let begin = text.iter().position(|byte| *byte == b'(')? + 1;
    let inner = text.get(begin..)?;
    let delimiter = *inner.first()?;
    let inner = inner.strip_prefix(&[delimiter; 3])?;
    let end = inner.iter().position(|byte| *byte == delimiter)?;
    number(inner.get(..end)?).filter(|port| *port > 0)
}

/// The port in the answer to PASV: `227 Entering Passive Mode (192,0,2,1,25,46)`. The address before it is not looked at:
/// behind a NAT it is wrong, and a hostile server could point it at somebody else.
pub(super) fn passive_port(text: &[u8]) -> Option<u16> {
    let is_part = |byte: &u8| byte.is_ascii_digit() || *byte == b',';
    let mut runs = text.split(|byte| !is_part(byte)).filter(|run| run.contains(&b','));
    let parts: Vec<&[u8]> = runs.next()?.split(|byte| *byte == b',').collect();
    let [_, _, _, _, high, low] = parts.as_slice() else { return None };
    let (high, low): (u8, u8) = (number(high)?, number(low)?);
    Some(u16::from_be_bytes([high, low])).filter(|port| *port > 0)
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    let digits = std::str::from_utf8(digits).ok()?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ports_are_found_where_servers_put_them() {
        assert_eq!(extended_port(b"Entering Extended Passive Mode (|||6446|)"), Some(6446));
        assert_eq!(extended_port(b"ok (!!!21!)."), Some(21));
        assert_eq!(passive_port(b"Entering Passive Mode (192,0,2,1,25,46)."), Some(25 * 256 + 46));
        assert_eq!(passive_port(b"Entering Passive Mode 192,0,2,1,25,46"), Some(25 * 256 + 46));
        assert_eq!(passive_port(b"=192,0,2,1,0,80"), Some(80));
    }

    #[test]
    fn what_is_no_port_is_none() {
        for bad in ["", "(", "(|||", "(||||)", "(|||70000|)", "(|||-1|)", "(|||0|)", "(|1|2|3|)"] {
            assert_eq!(extended_port(bad.as_bytes()), None, "{bad}");
        }
        for bad in
            ["", "1,2,3", "(1,2,3,4,256,1)", "(1,2,3,4,5)", "(1,2,3,4,5,6,7)", "(1,2,3,4,0,0)", "(,,,,,)"]
        {
            assert_eq!(passive_port(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in proptest::collection::vec(any::<u8>(), 0..40), like in "\\(?[|0-9,() ]{0,24}") {
            for text in [text.as_slice(), like.as_bytes()] {
                let _ = (extended_port(text), passive_port(text));
            }
        }
    }
}

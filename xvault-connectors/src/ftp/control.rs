//! The control connection: commands out, answers in.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::reply::{Assembly, MAX_REPLY};
use super::{Reply, telnet};
use crate::Error;

/// A connection, encrypted or not.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Wire for T {}

/// A control connection.
pub(super) struct Control<S> {
    stream: S,
    buffer: BytesMut,
    server: String,
    idle: Duration,
}

impl<S: Wire> Control<S> {
    pub(super) fn new(stream: S, server: String, idle: Duration) -> Self {
        Self { stream, buffer: BytesMut::new(), server, idle }
    }

    /// The connection itself, to be encrypted. Nothing may have come that was not asked for: whoever is in between could
    /// have it taken for the server's encrypted word.
    pub(super) fn into_stream(self) -> Result<S, Error> {
        if self.buffer.is_empty() {
            Ok(self.stream)
        } else {
            Err(self.protocol("it goes on in plain text after it agreed to TLS"))
        }
    }

    /// Sends a command and awaits its answer.
    pub(super) async fn call(&mut self, verb: &str, arg: Option<&[u8]>) -> Result<Reply, Error> {
        self.send(verb, arg).await?;
        self.reply().await
    }

    /// Sends a command.
    pub(super) async fn send(&mut self, verb: &str, arg: Option<&[u8]>) -> Result<(), Error> {
        let line = line(verb, arg).ok_or_else(|| {
            Error::Incomplete(format!("{verb} with a line break in its argument was not sent"))
        })?;
        self.write(verb, &line).await
    }

    /// Whether the server takes Telnet's commands out of what it reads, as the one before this NOOP.
    pub(super) async fn reads_telnet(&mut self) -> Result<bool, Error> {
        self.write("NOOP", &[telnet::NOTHING, b"NOOP\r\n"].concat()).await?;
        Ok(self.reply().await?.is_done())
    }

    async fn write(&mut self, verb: &str, line: &[u8]) -> Result<(), Error> {
        let sent = async {
            self.stream.write_all(line).await?;
            self.stream.flush().await
        };
        match timeout(self.idle, sent).await {
            Ok(sent) => sent.map_err(|error| self.lost(error)),
            Err(_) => Err(self.silent(verb)),
        }
    }

    /// Awaits an answer. 421 is an error: the server hangs up.
    pub(super) async fn reply(&mut self) -> Result<Reply, Error> {
        let mut assembly = Assembly::default();
        loop {
            while let Some(line) = self.buffered_line() {
                let added = assembly.add(&line).map_err(|detail| self.protocol(detail))?;
                match added {
                    Some(reply) if reply.code == 421 => return Err(self.dismissed(&reply)),
                    Some(reply) => return Ok(reply),
                    None => {}
                }
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), Error> {
        if self.buffer.len() > MAX_REPLY {
            return Err(self.protocol("a line of its answer does not end"));
        }
        match timeout(self.idle, self.stream.read_buf(&mut self.buffer)).await {
            Ok(Ok(0)) => Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.lost(error)),
            Err(_) => Err(self.silent("the control connection")),
        }
    }

    /// The next line that is there. Telnet's commands before it are dropped.
    fn buffered_line(&mut self) -> Option<Vec<u8>> {
        while let Some(len) = telnet::command(&self.buffer) {
            if self.buffer.len() < len {
                return None;
            }
            self.buffer.advance(len);
        }
        let end = self.buffer.iter().position(|byte| *byte == b'\n')?;
        let mut line = self.buffer.split_to(end).to_vec();
        self.buffer.advance(1);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Some(line)
    }

    /// The server breaks its protocol.
    pub(super) fn protocol(&self, detail: impl Into<String>) -> Error {
        Error::Protocol { server: self.server.clone(), detail: detail.into() }
    }

    fn lost(&self, source: io::Error) -> Error {
        let (server, reason) = (self.server.clone(), "it was lost".to_owned());
        Error::Connection { server, reason, source: Some(source) }
    }

    fn silent(&self, what: &str) -> Error {
        Error::Timeout { what: format!("{} ({what})", self.server), after: self.idle }
    }

    fn dismissed(&self, reply: &Reply) -> Error {
        let reason = format!("the server ended it: {}", reply.shown());
        Error::Connection { server: self.server.clone(), reason, source: None }
    }
}

/// A command as it goes out; `None` when its argument would make it two.
fn line(verb: &str, arg: Option<&[u8]>) -> Option<Zeroizing<Vec<u8>>> {
    let arg = arg.unwrap_or_default();
    if arg.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return None;
    }
    // As long as it becomes, so that no part of a password stays behind in memory that was outgrown.
    let mut line = Zeroizing::new(Vec::with_capacity(verb.len() + arg.len() + 3));
    line.extend_from_slice(verb.as_bytes());
    if !arg.is_empty() {
        line.push(b' ');
    }
    line.extend_from_slice(arg);
    line.extend_from_slice(b"\r\n");
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use xvault_core::{Dispose, Disposition};

    async fn answered(bytes: &[u8]) -> Result<Reply, Error> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        theirs.write_all(bytes).await.unwrap();
        drop(theirs);
        Control::new(ours, "h:21".into(), Duration::from_secs(5)).reply().await
    }

    #[test]
    fn an_argument_never_becomes_a_command() {
        for bad in [&b"a\r\nDELE b"[..], b"a\nb", b"a\rb", b"a\0b"] {
            assert_eq!(line("RETR", Some(bad)), None);
        }
        assert_eq!(&line("RETR", Some(b"/caf\xe9 \xff")).unwrap()[..], b"RETR /caf\xe9 \xff\r\n");
        assert_eq!(&line("PWD", None).unwrap()[..], b"PWD\r\n");
    }

    #[tokio::test]
    async fn answers_are_read_as_they_come() {
        assert_eq!(answered(b"220-Hello\r\n\r\n220 there\r\n").await.unwrap().code, 220);
        assert_eq!(answered(b"226 bare line feed\n").await.unwrap().code, 226);
        assert_eq!(answered(b"\xff\xfc\n\xff\xf1226-a\r\n\xff\xfd\x01226 b\r\n").await.unwrap().code, 226);
    }

    #[tokio::test]
    async fn each_way_to_end_has_its_kind() {
        let cases: [(&[u8], Disposition); 4] = [
            (b"220-Hello\r\n", Disposition::Transient),
            (b"", Disposition::Transient),
            (b"421 Too many connections\r\n", Disposition::Transient),
            (b"HTTP/1.1 400 Bad Request\r\n", Disposition::Permanent),
        ];
        for (bytes, disposition) in cases {
            let error = answered(bytes).await.unwrap_err();
            assert_eq!(error.disposition(), disposition, "{error}");
            assert!(error.to_string().contains("h:21"), "{error}");
        }
        let endless = answered(&[b'x'; 200_000]).await.unwrap_err();
        assert!(endless.to_string().contains("does not end"), "{endless}");
    }

    #[tokio::test]
    async fn what_comes_before_tls_is_not_taken_for_what_comes_after() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 10);
        theirs.write_all(b"234 go on\r\n230 logged in\r\n").await.unwrap();
        let mut control = Control::new(ours, "h:21".into(), Duration::from_secs(5));
        assert_eq!(control.reply().await.unwrap().code, 234);
        let error = control.into_stream().unwrap_err();
        let said = "it goes on in plain text after it agreed to TLS";
        assert!(matches!(&error, Error::Protocol { detail, .. } if detail == said), "{error:?}");
    }
}

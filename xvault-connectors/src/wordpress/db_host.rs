//! `DB_HOST`, as WordPress takes it apart.

use std::fmt;

/// Where the database is, as the site's own server sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DbHost {
    /// Name or address; `localhost` where none is given, which stands for a socket of that machine.
    pub host: String,
    /// TCP port, where one is given.
    pub port: Option<u16>,
    /// The socket's path, where one is given. It goes before host and port.
    pub socket: Option<String>,
}

impl DbHost {
    /// `host`, `host:port`, `host:/socket`, `[::1]:port`, `::1`. `None`: WordPress would not understand it either.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (text, socket) = match text.find(":/") {
            Some(at) => (text.get(..at)?, text.get(at + 1..).map(str::to_owned)),
            None => (text, None),
        };
        let (host, port) = if text.matches(':').count() > 1 { ipv6(text)? } else { plain(text) };
        let host = if host.is_empty() { "localhost" } else { host };
        Some(Self { host: host.to_owned(), port: port.filter(|port| *port != 0), socket })
    }

    /// Whether PHP would use the usual socket of the machine.
    #[must_use]
    pub fn is_usual_socket(&self) -> bool {
        self.socket.is_none() && self.host == "localhost"
    }
}

impl fmt::Display for DbHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, socket } = self;
        match (socket, port) {
            (Some(socket), _) => f.write_str(socket),
            (None, Some(port)) => write!(f, "{host}:{port}"),
            (None, None) => f.write_str(host),
        }
    }
}

/// `host:port`; what follows the digits is not looked at.
fn plain(text: &str) -> (&str, Option<u16>) {
    let host = text.split(['/', ':']).next().unwrap_or_default();
    let port = text.get(host.len()..).and_then(|rest| rest.strip_prefix(':')).and_then(digits);
    (host, port)
}

fn ipv6(text: &str) -> Option<(&str, Option<u16>)> {
    let inner = text.strip_prefix('[').unwrap_or(text);
    let length = inner.find(|c: char| !c.is_ascii_hexdigit() && c != ':').unwrap_or(inner.len());
    let host = inner.get(..length).filter(|host| !host.is_empty())?;
    let port = inner.get(length..).and_then(|rest| rest.strip_prefix("]:")).and_then(digits);
    Some((host, port))
}

fn digits(text: &str) -> Option<u16> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_taken_apart_as_wordpress_does() {
        let cases = [
            ("localhost", ("localhost", None, None)),
            ("", ("localhost", None, None)),
            ("db.example", ("db.example", None, None)),
            ("db.example:3307", ("db.example", Some(3307), None)),
            ("localhost:/run/my.sock", ("localhost", None, Some("/run/my.sock"))),
            (":/run/my.sock", ("localhost", None, Some("/run/my.sock"))),
            ("localhost:3307:/run/my.sock", ("localhost", Some(3307), Some("/run/my.sock"))),
            ("127.0.0.1:3306", ("127.0.0.1", Some(3306), None)),
            ("::1", ("::1", None, None)),
            ("[::1]:3307", ("::1", Some(3307), None)),
            ("[2001:db8::5]", ("2001:db8::5", None, None)),
            ("db:", ("db", None, None)),
            ("db:0", ("db", None, None)),
            ("db:99999", ("db", None, None)),
            ("db:33a", ("db", Some(33), None)),
        ];
        for (text, (host, port, socket)) in cases {
            let expected = DbHost { host: host.into(), port, socket: socket.map(str::to_owned) };
            assert_eq!(DbHost::parse(text), Some(expected), "{text}");
        }
        assert_eq!(DbHost::parse("x:y:z"), None);
    }
}

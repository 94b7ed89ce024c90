//! A scripted FTP server.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::ftp_support::Job;

/// What the server says to a command, instead of what is usual.
type Quirk = dyn Fn(&str) -> Option<&'static str> + Send + Sync;

/// What is listed and sent, by path.
#[derive(Default)]
pub(crate) struct Content {
    /// `LIST /path` is what LIST tells, where it is not as MLSD.
    lists: BTreeMap<&'static str, Vec<u8>>,
    files: BTreeMap<&'static str, Vec<u8>>,
}

/// Runs until the test ends.
pub(crate) struct Script {
    port: u16,
    pub(crate) heard: Arc<Mutex<Vec<String>>>,
}

impl Script {
    pub(crate) fn start(
        content: Content,
        quirk: impl Fn(&str) -> Option<&'static str> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (content, quirk, ears): (_, Arc<Quirk>, _) = (Arc::new(content), Arc::new(quirk), heard.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (content, quirk, ears) = (content.clone(), quirk.clone(), ears.clone());
                // A client that goes away is no reason to fail.
                std::thread::spawn(move || drop(serve(&stream, &content, &*quirk, &ears)));
            }
        });
        Self { port, heard }
    }

    pub(crate) fn job(&self, paths: &[&str]) -> Job {
        Job::at(self.port, "u", "p", paths).plain().set(|settings| settings.max_connections = 2)
    }

    pub(crate) fn heard(&self, command: &str) -> usize {
        self.heard.lock().unwrap().iter().filter(|line| line.starts_with(command)).count()
    }
}

fn serve(
    stream: &TcpStream,
    content: &Content,
    quirk: &Quirk,
    heard: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut lines = BufReader::new(stream);
    let (mut cwd, mut offset, mut passive) = (String::from("/"), 0, None);
    out.write_all(quirk("HELLO").unwrap_or("220 odd server\r\n").as_bytes())?;
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
        heard.lock().unwrap().push(line.clone());
        let (verb, arg) = line.split_once(' ').unwrap_or((&line, ""));
        let told = quirk(&line);
        if let Some(reply) = told.filter(|reply| !reply.starts_with("150")) {
            out.write_all(reply.as_bytes())?;
            continue;
        }
        let reply = match verb {
            "USER" => "331 password\r\n".to_owned(),
            "PASS" => "230 in\r\n".to_owned(),
            "TYPE" | "NOOP" | "OPTS" => "200 ok\r\n".to_owned(),
            "PWD" => "257 \"/\" here\r\n".to_owned(),
            "CWD" if content.lists.contains_key(arg) => {
                arg.clone_into(&mut cwd);
                "250 ok\r\n".to_owned()
            }
            "MLST" | "MLSD" if quirk("FEAT").is_none() => "500 what?\r\n".to_owned(),
            "MLST" => "550 not told\r\n".to_owned(),
            "CWD" => "550 no such directory\r\n".to_owned(),
            "SIZE" => match content.files.get(arg) {
                Some(file) => format!("213 {}\r\n", file.len()),
                None => "550 no such file\r\n".to_owned(),
            },
            "EPSV" | "PASV" => {
                let listener = TcpListener::bind(("127.0.0.1", 0))?;
                let port = listener.local_addr()?.port();
                passive = Some(listener);
                match verb {
                    "EPSV" => format!("229 ok (|||{port}|)\r\n"),
                    _ => format!("227 ok (127,0,0,1,{},{})\r\n", port >> 8, port & 255),
                }
            }
            "REST" => {
                offset = arg.parse().unwrap();
                "350 ok\r\n".to_owned()
            }
            "LIST" | "MLSD" | "RETR" => {
                let bytes = match verb {
                    "LIST" => {
                        let own = content.lists.get(format!("LIST {cwd}").as_str());
                        own.or_else(|| content.lists.get(cwd.as_str()))
                    }
                    "MLSD" => content.lists.get(arg),
                    _ => content.files.get(arg),
                };
                let Some(bytes) = bytes else {
                    out.write_all(b"550 no such file\r\n")?;
                    continue;
                };
                // Some say nothing before the end.
                if !told.is_some_and(|told| told.starts_with("150-")) {
                    out.write_all(b"150 here it comes\r\n")?;
                }
                // What is broken off comes by half.
                let is_cut = verb == "RETR" && told.is_some_and(|told| told.contains("426"));
                let end = if is_cut { bytes.len() / 2 } else { bytes.len() };
                let (mut data, _) = passive.take().unwrap().accept()?;
                let _ = data.write_all(bytes.get(std::mem::take(&mut offset)..end).unwrap_or_default());
                drop(data);
                told.map_or("226 done\r\n", |told| &told[4..]).to_owned()
            }
            "QUIT" => return Ok(()),
            _ => "500 what?\r\n".to_owned(),
        };
        out.write_all(reply.as_bytes())?;
    }
}

pub(crate) fn listing(lists: &[(&'static str, &str)], files: &[(&'static str, &str)]) -> Content {
    Content {
        lists: lists.iter().map(|(path, text)| (*path, text.replace('\n', "\r\n").into_bytes())).collect(),
        files: files.iter().map(|(path, text)| (*path, text.as_bytes().to_vec())).collect(),
    }
}

const MLSD: &str = "211-\r\n MLST type*;size*;modify*;unique*;\r\n SIZE\r\n REST STREAM\r\n211 end\r\n";

pub(crate) fn with_mlsd(line: &str) -> Option<&'static str> {
    (line == "FEAT").then_some(MLSD)
}

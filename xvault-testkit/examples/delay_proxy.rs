//! Puts a server on 127.0.0.1 far away: `delay_proxy PORT DELAY_MS [FIRST LAST]`.
//!
//! Prints the port to connect to instead, and runs until it is killed. Every byte arrives `DELAY_MS`
//! (fractions allowed) later in each direction, so a round trip takes twice that; bandwidth stays what it is.
//! With FIRST and LAST it stands on 127.0.0.2 instead, and before these ports, too, with the same numbers: those of an FTP server's
//! data connections. That a connection is made is not delayed.

use std::error::Error;
use std::io::Write;
use std::net::Ipv4Addr;
use std::time::Duration;

use xvault_testkit::FaultProxy;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(port), Some(delay)) = (args.next(), args.next()) else {
        return Err("usage: delay_proxy PORT DELAY_MS [FIRST LAST]".into());
    };
    let more = args.map(|port| port.parse()).collect::<Result<Vec<u16>, _>>()?;
    let one_way = Duration::try_from_secs_f64(delay.parse::<f64>()? / 1000.0)?;
    let front = if more.is_empty() { Ipv4Addr::LOCALHOST } else { Ipv4Addr::new(127, 0, 0, 2) };
    let proxy = FaultProxy::start_at(front, 0, port.parse()?);
    proxy.set_delay(one_way);
    let ports = if let [first, last] = more[..] { Some(first..=last) } else { None };
    let data: Vec<FaultProxy> =
        ports.into_iter().flatten().map(|port| FaultProxy::start_at(front, port, port)).collect();
    data.iter().for_each(|proxy| proxy.set_delay(one_way));
    let mut out = std::io::stdout();
    writeln!(out, "{}", proxy.port)?;
    out.flush()?;
    loop {
        std::thread::park();
    }
}

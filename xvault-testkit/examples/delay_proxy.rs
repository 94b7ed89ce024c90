//! Puts a server on 127.0.0.1 far away: `delay_proxy PORT DELAY_MS`.
//!
//! Prints the port to connect to instead, and runs until it is killed. Every byte arrives `DELAY_MS`
//! (fractions allowed) later in each direction, so a round trip takes twice that; bandwidth stays what it is.

use std::error::Error;
use std::io::Write;
use std::time::Duration;

use xvault_testkit::FaultProxy;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(port), Some(delay), None) = (args.next(), args.next(), args.next()) else {
        return Err("usage: delay_proxy PORT DELAY_MS".into());
    };
    let one_way = Duration::try_from_secs_f64(delay.parse::<f64>()? / 1000.0)?;
    let proxy = FaultProxy::start(port.parse()?);
    proxy.set_delay(one_way);
    let mut out = std::io::stdout();
    writeln!(out, "{}", proxy.port)?;
    out.flush()?;
    loop {
        std::thread::park();
    }
}

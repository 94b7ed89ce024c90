//! Proxies before an FTP server: before its control port and each of its ports for data.

use std::net::Ipv4Addr;

use crate::{FaultProxy, Ftpd};

/// Whoever is told this address makes data connections to it as well, at the ports that the server names.
#[derive(Debug)]
pub struct FtpFront {
    /// Before the port to log in at.
    pub control: FaultProxy,
    /// Before each port for data: few, with [`crate::FtpdBuilder::passive_ports`].
    pub data: Vec<FaultProxy>,
}

impl FtpFront {
    /// Where the proxies are.
    pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

    /// Starts them, without faults.
    ///
    /// # Panics
    /// When one of the ports is taken.
    #[must_use]
    pub fn of(ftpd: &Ftpd) -> Self {
        let data = ftpd.passive.clone().map(|port| FaultProxy::start_at(Self::ADDRESS, port, port)).collect();
        Self { control: FaultProxy::start_at(Self::ADDRESS, 0, ftpd.port), data }
    }

    /// The server is away: connections are cut, and new ones closed at once.
    pub fn go_away(&self) {
        for proxy in self.proxies() {
            proxy.refuse();
            proxy.cut_now();
        }
    }

    /// It is there, without faults.
    pub fn come_back(&self) {
        self.proxies().for_each(FaultProxy::heal);
    }

    fn proxies(&self) -> impl Iterator<Item = &FaultProxy> {
        self.data.iter().chain([&self.control])
    }

    /// Bytes that data connections have brought.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.data.iter().map(FaultProxy::bytes_to_client).sum()
    }
}

//! Hostile files as somebody makes them who has the recipient's public key: encrypted properly, wrong inside.

use std::sync::OnceLock;

use xvault_core::{Identity, seal};

/// The key of this process. It differs from run to run, which changes nothing that is tested.
pub(crate) fn identities() -> &'static [Identity] {
    static KEY: OnceLock<[Identity; 1]> = OnceLock::new();
    KEY.get_or_init(|| [Identity::generate()])
}

/// `plain` as an age file for [`identities`].
pub(crate) fn encrypted(plain: &[u8]) -> Vec<u8> {
    let recipients: Vec<_> = identities().iter().map(Identity::recipient).collect();
    let sealed = seal::seal(&recipients, plain);
    assert!(sealed.is_ok(), "age can't encrypt");
    sealed.unwrap_or_default()
}

/// `plain` as one zstd frame that states its content's size and checksum.
pub(crate) fn frame(plain: &[u8]) -> Vec<u8> {
    let mut compressor = zstd::bulk::Compressor::default();
    let compressed = compressor.include_checksum(true).and_then(|()| compressor.compress(plain));
    assert!(compressed.is_ok(), "zstd can't compress");
    compressed.unwrap_or_default()
}

//! Header blocks of a tar, for any name and any type.

/// The largest size that eleven octal digits can say.
const MAX_OCTAL: u64 = (1 << 33) - 1;

/// A header block with a right checksum. A size of 8 GiB or more is in GNU's binary form.
///
/// # Panics
/// When `name` or `target` is longer than 100 bytes.
#[must_use]
pub fn header_block(name: &str, flag: u8, size: u64, target: &str) -> Vec<u8> {
    assert!(name.len() <= 100 && target.len() <= 100, "{name} -> {target} needs an extended header");
    let mut block = vec![0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\x000000000\x000000000\0");
    if size <= MAX_OCTAL {
        put(124, format!("{size:011o}\0").as_bytes());
    } else {
        put(124, &[&[0x80, 0, 0, 0][..], &size.to_be_bytes()].concat());
    }
    put(136, b"00000000000\0        ");
    put(156, &[flag]);
    put(157, target.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

//! The bytes of one frame to send (RFC 6455 section 5.2), and the mask that every client frame carries.

/// What a frame is (RFC 6455 section 5.2).
pub mod opcode {
    /// More of a message.
    pub const CONTINUATION: u8 = 0x0;
    /// UTF-8 text.
    pub const TEXT: u8 = 0x1;
    /// Bytes.
    pub const BINARY: u8 = 0x2;
    /// The end, with a code and a reason.
    pub const CLOSE: u8 = 0x8;
    /// Asks for a pong.
    pub const PING: u8 = 0x9;
    /// Answers a ping.
    pub const PONG: u8 = 0xA;

    /// The first of the control frames, which are short, whole and never compressed.
    pub const FIRST_CONTROL: u8 = 0x8;
}

/// The bit of a compressed message's first frame (RFC 7692 section 6).
const COMPRESSED: u8 = 0x40;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
/// Lengths that say where the length is.
const LENGTH_OF_16_BITS: u8 = 0x7E;
const LENGTH_OF_64_BITS: u8 = 0x7F;

/// Appends one whole, masked frame to `out`.
///
/// `key` should be unpredictable for whoever chose the payload (RFC 6455 section 10.3).
pub fn encode(out: &mut Vec<u8>, opcode: u8, compressed: bool, payload: &[u8], key: [u8; 4]) {
    out.reserve(payload.len() + 14);
    let flags = FINAL | if compressed { COMPRESSED } else { 0 };
    out.push(flags | opcode);
    match payload.len() {
        short @ 0..126 => out.push(MASKED | u8::try_from(short).unwrap_or(125)),
        middle @ 126..=0xFFFF => {
            out.push(MASKED | LENGTH_OF_16_BITS);
            out.extend_from_slice(&u16::try_from(middle).unwrap_or(u16::MAX).to_be_bytes());
        }
        long => {
            out.push(MASKED | LENGTH_OF_64_BITS);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&key);
    let start = out.len();
    out.extend_from_slice(payload);
    mask(out.get_mut(start..).unwrap_or_default(), key);
}

/// Masks `data` in place, or takes the mask off: it is the same (RFC 6455 section 5.3).
pub fn mask(data: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = data.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
    }
}

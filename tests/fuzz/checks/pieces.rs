//! The same bytes, as a network may deliver them. Used by every check.

/// Splits off the `N` bytes that choose how the rest is used; missing ones are zero.
pub(super) fn options<const N: usize>(input: &[u8]) -> ([u8; N], &[u8]) {
    let (first, rest) = input.split_at(N.min(input.len()));
    let mut chosen = [0; N];
    chosen[..first.len()].copy_from_slice(first);
    (chosen, rest)
}

/// Cuts `text` as `seed` says: 0 byte by byte, otherwise at places that follow from it, some pieces empty.
pub(super) fn cut(text: &[u8], seed: u8) -> Vec<&[u8]> {
    if seed == 0 {
        return text.chunks(1).collect();
    }
    let mut state = u32::from(seed).wrapping_mul(0x9E37_79B9);
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        // xorshift32 (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        // Two scales, as the interesting places are near each other in heads and far apart in bodies.
        let most = if state & 0x100 == 0 { 8 } else { 256 };
        let (piece, after) = rest.split_at((state as usize % most).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

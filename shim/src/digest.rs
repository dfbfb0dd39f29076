//! A name from a text of any length, for sockets. It keeps no secret and resists no attacker: who
//! can choose a container's id can also choose its group.
#![forbid(unsafe_code)]

/// FNV-1a over 128 bits (draft-eastlake-fnv), in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013B;
    const BASIS: u128 = 0x6C62_272E_07BB_0142_62B8_2175_6295_C58D;
    let hash = bytes.iter().fold(BASIS, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(PRIME)
    });
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn known_values() {
        assert_eq!(super::hex(b""), "6c62272e07bb014262b821756295c58d");
        assert_eq!(super::hex(b"a"), "d228cb696f1a8caf78912b704e4a8964");
    }
}

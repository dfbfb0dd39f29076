//! Fuzzing: what rtnetlink answers.
#![forbid(unsafe_code)]

use super::*;

/// A packet of rtnetlink; reading it ends, and stays within it.
pub fn netlink(bytes: &[u8]) {
    let (mut rest, mut count) = (bytes, 0);
    while let Some((message, next)) = split(rest) {
        assert!(next.len() + HEADER <= rest.len(), "no step forward");
        rest = next;
        count += 1;
        drop(link(message.body));
        if let Some((_, found)) = address(message.body) {
            let lengths = found.parts.iter().map(|(_, value)| value.len() + 4);
            assert!(lengths.sum::<usize>() <= message.body.len());
            // What is sent to the other namespace reads back.
            let mut body = found.head.to_vec();
            body.extend([0; 4]);
            for (kind, value) in &found.parts {
                put(&mut body, *kind, value);
            }
            let again = address(&body).map(|(_, again)| again.parts);
            assert_eq!(again, Some(found.parts));
        }
    }
    assert!(count * HEADER <= bytes.len());
}

/// A device with an address, and the ends that there are.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let message = |kind: u16, body: &[u8]| {
        let length = u32::try_from(HEADER + body.len()).unwrap_or(0);
        let mut packet = length.to_ne_bytes().to_vec();
        packet.extend(kind.to_ne_bytes());
        packet.extend([2, 0]);
        packet.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend(body);
        packet
    };
    let mut link = of_link(1, IFF_UP);
    put(&mut link, IFLA_IFNAME, b"lo\0");
    let mut address = vec![2, 8, 0x80, 254, 1, 0, 0, 0];
    put(&mut address, IFA_ADDRESS, &[127, 0, 0, 1]);
    put(&mut address, IFA_LOCAL, &[127, 0, 0, 1]);
    put(&mut address, IFA_FLAGS, &PERMANENT.to_ne_bytes());
    let (link, address) = (message(NEWLINK, &link), message(NEWADDR, &address));
    let (done, failed) = (
        message(DONE, &[0; 4]),
        message(ERROR, &[0xed, 0xff, 0xff, 0xff]),
    );
    vec![[&*link, &address, &done].concat(), link, address, failed]
}

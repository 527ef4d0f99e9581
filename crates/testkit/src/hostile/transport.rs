//! MPEG-TS tables without measure (ISO 13818-1 section 2.4.4).

const PACKET: usize = 188;

/// The checksum of table sections.
fn checksum(section: &[u8]) -> u32 {
    section.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte) << 24, |sum, _| {
            if sum & 0x8000_0000 == 0 { sum << 1 } else { sum << 1 ^ 0x04c1_1db7 }
        })
    })
}

fn section(table: u8, number: u16, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 9).expect("a section of one packet");
    let mut section = vec![table];
    section.extend((0xb000 | length).to_be_bytes());
    section.extend(number.to_be_bytes());
    section.extend([0xc1, 0, 0]);
    section.extend(body);
    section.extend(checksum(&section).to_be_bytes());
    section
}

fn packet(pid: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x47];
    packet.extend((0x4000 | pid).to_be_bytes());
    packet.extend([0x10, 0]);
    packet.extend(payload);
    assert!(packet.len() <= PACKET, "one packet");
    packet.resize(PACKET, 0xff);
    packet
}

/// `stream` behind tables of 30 further programs with 33 streams each.
pub fn many_streams(stream: &[u8]) -> Vec<u8> {
    let tables: Vec<u16> = (0..30).map(|program| 0x1200 + program).collect();
    let mut list = vec![0, 1, 0xf0, 0x00];
    let mut packets = Vec::new();
    let mut pid = 0x200u16;
    for (number, table) in (2u16..).zip(&tables) {
        list.extend(number.to_be_bytes());
        list.extend((0xe000 | table).to_be_bytes());
        let mut body = vec![0xe2, 0x00, 0xf0, 0x00];
        for kind in [0x1b, 0x0f, 0x24].into_iter().cycle().take(33) {
            body.push(kind);
            body.extend((0xe000 | pid).to_be_bytes());
            body.extend([0xf0, 0]);
            pid += 1;
        }
        packets.extend(packet(*table, &section(2, number, &body)));
    }
    [packet(0, &section(0, 1, &list)), packets, stream.to_vec()].concat()
}

/// Tables that claim what they do not hold: lengths beyond the packet, streams on the null packet's and the
/// tables' own pids, a clock of the highest values.
pub fn odd_tables() -> Vec<u8> {
    let list = section(0, 1, &[0, 1, 0xff, 0xff, 0, 2, 0xe0, 0x00, 0, 3, 0xf0, 0x00]);
    let streams = [0x1b, 0xff, 0xff, 0xff, 0xff, 0x1b, 0xe0, 0x00, 0xf0, 0x00, 0x0f, 0xff, 0xfe];
    let map = section(2, 3, &[&[0xff, 0xff, 0xff, 0xff][..], &streams].concat());
    let mut clock = vec![0x47, 0x5f, 0xff, 0x30, 183, 0x50];
    clock.extend([0xff; 12]);
    clock.resize(PACKET, 0xff);
    let pictures = packet(0x1ffe, &[0, 0, 1, 0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    [packet(0, &list), packet(0x1000, &map), packet(0x1fff, &map), clock, pictures]
        .concat()
        .repeat(64)
}

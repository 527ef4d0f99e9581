//! H.264's two forms: length-prefixed with the parameter sets apart (FLV, MP4), and Annex B with start
//! codes and the sets in the stream (MPEG-TS).

/// Most parameter sets of each kind that are kept; encoders have one.
const MOST_SETS: usize = 8;
/// NAL unit types.
const IDR: u8 = 5;
const SPS: u8 = 7;
const PPS: u8 = 8;
const DELIMITER: u8 = 9;

/// Parameter sets and the size of length prefixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvcConfig {
    /// Bytes of a length prefix: 1, 2 or 4.
    pub prefix: usize,
    /// Sequence parameter sets, at least one.
    pub sps: Vec<Vec<u8>>,
    /// Picture parameter sets, at least one.
    pub pps: Vec<Vec<u8>>,
}

impl AvcConfig {
    /// Reads an AVCDecoderConfigurationRecord.
    pub fn of_record(record: &[u8]) -> Option<Self> {
        let [1, _, _, _, sizes, sps_count, rest @ ..] = record else { return None };
        let prefix = usize::from(sizes & 3) + 1;
        let (sps, rest) = sets(rest, usize::from(sps_count & 0x1f), SPS)?;
        let [pps_count, rest @ ..] = rest else { return None };
        let (pps, _) = sets(rest, usize::from(*pps_count), PPS)?;
        let whole = prefix != 3 && !sps.is_empty() && !pps.is_empty();
        whole.then_some(Self { prefix, sps, pps })
    }

    /// From an access unit in Annex B form that carries its sets.
    pub fn of_unit(unit: &[u8]) -> Option<Self> {
        let of = |kind| -> Vec<Vec<u8>> {
            let mut found: Vec<Vec<u8>> = nals(unit)
                .filter(|nal| nal.len() >= 4 && nal_type(nal) == kind && nal.len() <= 0xffff)
                .take(MOST_SETS)
                .map(<[u8]>::to_vec)
                .collect();
            found.dedup();
            found
        };
        let (sps, pps) = (of(SPS), of(PPS));
        (!sps.is_empty() && !pps.is_empty()).then_some(Self { prefix: 4, sps, pps })
    }

    /// As MP4 carries it, with prefixes of four bytes.
    pub fn record(&self) -> Vec<u8> {
        let first = self.sps.first().map(Vec::as_slice).unwrap_or_default();
        let mut out = vec![1];
        out.extend(first.get(1..4).unwrap_or(&[0x42, 0, 0x1e]));
        out.push(0xff);
        for (sets, mark) in [(&self.sps, 0xe0), (&self.pps, 0)] {
            out.push(mark | u8::try_from(sets.len()).unwrap_or(0));
            for set in sets {
                out.extend(u16::try_from(set.len()).unwrap_or(0).to_be_bytes());
                out.extend_from_slice(set);
            }
        }
        out
    }

    /// RFC 6381.
    pub fn codec(&self) -> String {
        match self.sps.first().map(Vec::as_slice) {
            Some([_, a, b, c, ..]) => format!("avc1.{a:02x}{b:02x}{c:02x}"),
            _ => "avc1".to_owned(),
        }
    }

    /// An access unit in Annex B form: a delimiter first, and the sets before a picture that can be
    /// begun with. `None` when a length leads out of the unit.
    pub fn annex_b(&self, unit: &[u8], key: bool) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(unit.len() + 256);
        nal(&mut out, &[DELIMITER, 0xf0]);
        let mut own_sets = false;
        let mut body = Vec::with_capacity(unit.len() + 64);
        let mut rest = unit;
        while !rest.is_empty() {
            let (prefix, after) = rest.split_at_checked(self.prefix)?;
            let length = prefix.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
            let (one, after) = after.split_at_checked(length)?;
            match one.first().map(|first| first & 0x1f) {
                None | Some(DELIMITER) => {}
                Some(kind) => {
                    own_sets |= kind == SPS;
                    nal(&mut body, one);
                }
            }
            rest = after;
        }
        if key && !own_sets {
            self.sps.iter().chain(&self.pps).for_each(|set| nal(&mut out, set));
        }
        out.extend(body);
        Some(out)
    }
}

/// An access unit with prefixes of four bytes, without its delimiter. Parameter sets stay: the next
/// segment may have been made by another encoder than the one that the file began with.
pub fn prefixed(unit: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(unit.len());
    for nal in nals(unit).filter(|nal| nal_type(nal) != DELIMITER) {
        out.extend(u32::try_from(nal.len()).unwrap_or(0).to_be_bytes());
        out.extend_from_slice(nal);
    }
    out
}

/// Whether a decoder can begin with this access unit in Annex B form.
pub fn is_key(unit: &[u8]) -> bool {
    nals(unit).any(|nal| nal_type(nal) == IDR)
}

fn nal(out: &mut Vec<u8>, body: &[u8]) {
    out.extend([0, 0, 0, 1]);
    out.extend_from_slice(body);
}

fn nal_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |first| first & 0x1f)
}

/// The units between start codes, none of them empty.
pub fn nals(unit: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_code(unit).unwrap_or_default();
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (one, tail) = match code_at(rest) {
                Some(at) => rest.split_at(at),
                None => (rest, &[][..]),
            };
            rest = after_code(tail).unwrap_or_default();
            // The zero before a code of three bytes belongs to the code.
            let end = one.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            match one.get(..end) {
                Some(nal) if !nal.is_empty() => return Some(nal),
                _ => {}
            }
        }
        None
    })
}

fn code_at(bytes: &[u8]) -> Option<usize> {
    bytes.windows(3).position(|window| window == [0, 0, 1])
}

fn after_code(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(code_at(bytes)? + 3..)
}

type Sets<'a> = (Vec<Vec<u8>>, &'a [u8]);

fn sets(mut rest: &[u8], count: usize, kind: u8) -> Option<Sets<'_>> {
    let mut sets = Vec::new();
    for _ in 0..count {
        let [high, low, tail @ ..] = rest else { return None };
        let length = usize::from(*high) << 8 | usize::from(*low);
        let (set, tail) = tail.split_at_checked(length)?;
        if set.len() >= 4 - usize::from(kind == PPS) * 2
            && nal_type(set) == kind
            && sets.len() < MOST_SETS
        {
            sets.push(set.to_vec());
        }
        rest = tail;
    }
    Some((sets, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::generated::*;

    const RECORD: [u8; 21] = [
        1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 6, 0x67, 0x64, 0, 0x1f, 0xac, 0xd9, 1, 0, 4, 0x68, 0xeb,
        0xe3, 0xcb,
    ];

    #[test]
    fn there_and_back() {
        let config = AvcConfig::of_record(&RECORD).unwrap();
        assert_eq!(config.codec(), "avc1.64001f");
        assert_eq!(config.record(), RECORD);
        let unit = [0, 0, 0, 3, 0x65, 1, 2, 0, 0, 0, 2, 0x06, 9];
        let stream = config.annex_b(&unit, true).unwrap();
        assert!(is_key(&stream));
        assert_eq!(AvcConfig::of_unit(&stream).unwrap(), config);
        let sets = [&[0, 0, 0, 6][..], &RECORD[8..14], &[0, 0, 0, 4], &RECORD[17..]].concat();
        assert_eq!(prefixed(&stream), [sets, unit.to_vec()].concat());
        assert!(config.annex_b(&unit[..6], true).is_none());
        let plain = config.annex_b(&[0, 0, 0, 2, 0x41, 7], false).unwrap();
        assert_eq!(nals(&plain).collect::<Vec<_>>(), [&[9, 0xf0][..], &[0x41, 7]]);
    }

    #[test]
    fn whatever_the_bytes_are() {
        let config = AvcConfig::of_record(&RECORD).unwrap();
        cases(100_000, |rng| {
            if let Some(config) = AvcConfig::of_record(&damaged(rng, &RECORD, 3)) {
                assert!(!config.sps.is_empty() && config.record().len() < 200);
            }
            let unit = damaged(rng, &[0, 0, 0, 1, 0x67, 1, 2, 3, 0, 0, 1, 0x68, 1, 0, 0, 1], 4);
            assert!(nals(&unit).all(|nal| !nal.is_empty()));
            assert!(prefixed(&unit).len() <= unit.len() + 8);
            AvcConfig::of_unit(&unit);
            let annex_b = config.annex_b(&unit, true);
            assert!(annex_b.is_none_or(|out| out.len() <= unit.len() * 4 + 64));
        });
    }
}

//! Media as bytes and text: what a push says, what a file is, what a playlist looks like. Pure and
//! bounded, except [`ffprobe`], which runs a confined child process.

pub mod aac;
pub mod avc;
mod bits;
pub mod config_header;
pub mod dash;
pub mod ffprobe;
pub mod flv;
pub mod fmp4;
pub mod mixed;
pub mod mp4;
pub mod path;
pub mod playlist;
pub mod probe;
pub mod recording;
pub mod sps;
pub mod ts;
pub mod wav;

/// Generated cases for parsers: a hundred thousand a parser in about a second, which proptest's
/// strategies are too slow for. The seed is fixed, so a failure repeats.
#[cfg(test)]
pub(crate) mod generated {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    /// Runs `case` so often.
    pub(crate) fn cases(count: u32, mut case: impl FnMut(&mut StdRng)) {
        let mut rng = StdRng::seed_from_u64(0x70656e73746f636b);
        (0..count).for_each(|_| case(&mut rng));
    }

    /// A valid input with a few bytes changed, and sometimes cut short.
    pub(crate) fn damaged(rng: &mut StdRng, valid: &[u8], most_hits: usize) -> Vec<u8> {
        let mut data = valid.to_vec();
        for _ in 0..rng.random_range(0..=most_hits) {
            let at = rng.random_range(0..data.len());
            data[at] = rng.random();
        }
        if rng.random_bool(0.3) {
            data.truncate(rng.random_range(0..=data.len()));
        }
        data
    }

    /// Text of pieces that matter to the parser.
    pub(crate) fn pieced(rng: &mut StdRng, pieces: &[&str], most: usize) -> String {
        (0..rng.random_range(0..=most)).map(|_| pieces[rng.random_range(0..pieces.len())]).collect()
    }
}

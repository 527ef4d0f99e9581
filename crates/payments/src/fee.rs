//! The fee estimate of a video segment (payments.md section 12).

use penstock_domain::{Rational, U256};

/// Frames per second of a rendition that keeps its source's rate: a careful guess.
const PASS_THROUGH_FPS: u32 = 60;
/// The **double** 1.02, exactly: the reference multiplies by it, so its error is part of the fee.
const ESTIMATE_NUMERATOR: i128 = 2_296_835_809_958_953;
const ESTIMATE_DENOMINATOR: u128 = 2_251_799_813_685_248;

/// Size and rate of one rendition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenditionRate {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frames per `fps_den` seconds; 0 = as the source.
    pub fps: u32,
    /// 0 is read as 1.
    pub fps_den: u32,
}

/// Pixels that a segment's renditions are expected to have: whole frames per second and whole
/// seconds, both rounded up.
pub fn estimated_pixels(renditions: &[RenditionRate], duration_ms: u64) -> U256 {
    let seconds = U256::from(duration_ms.div_ceil(1000));
    renditions
        .iter()
        .map(|rendition| {
            let fps = if rendition.fps == 0 { PASS_THROUGH_FPS } else { rendition.fps };
            let frames = fps.div_ceil(rendition.fps_den.max(1));
            // Three 32-bit numbers and a 64-bit one: 160 bits at most.
            [rendition.width, rendition.height, frames]
                .into_iter()
                .fold(seconds, |product, n| product * U256::from(n))
        })
        .fold(U256::ZERO, |sum, pixels| sum.saturating_add(pixels))
}

/// Pixels with the safety margin of 1.02.
pub fn padded_pixels(pixels: U256) -> Rational {
    // The constant denominator is not 0.
    let margin = Rational::new(ESTIMATE_NUMERATOR, ESTIMATE_DENOMINATOR).unwrap_or(Rational::ONE);
    Rational::from(pixels) * margin
}

/// The estimate in wei: `pixels × 1.02 × price`.
pub fn fee_estimate(pixels: U256, price: &Rational) -> Rational {
    &padded_pixels(pixels) * price
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(fps: u32, fps_den: u32, duration_ms: u64) -> U256 {
        estimated_pixels(&[RenditionRate { width: 10, height: 10, fps, fps_den }], duration_ms)
    }

    #[test]
    fn rates_and_seconds_are_rounded_up() {
        assert_eq!(pixels(30_000, 1001, 1_000), U256::from(100 * 30));
        assert_eq!(pixels(30, 0, 2_200), U256::from(100 * 30 * 3));
        assert_eq!(pixels(0, 0, 1_000), U256::from(100 * 60));
        assert_eq!(pixels(0, 2, 1_000), U256::from(100 * 30));
        assert_eq!(pixels(30, 1, 0), U256::ZERO);
        assert_eq!(estimated_pixels(&[], 2_000), U256::ZERO);
    }

    #[test]
    fn the_margin_is_the_double_and_not_the_decimal() {
        let padded = padded_pixels(U256::from(100));
        assert!(padded > Rational::new(102, 1).unwrap());
        assert_eq!(padded.to_fixed(10), "102.0000000000");
    }
}

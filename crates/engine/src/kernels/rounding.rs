//! From f32 to u8.

/// Added to a value of less than 2^22, it leaves the nearest integer (ties to even) in the low bits of the sum.
pub(super) const ROUND: f32 = 12_582_912.0;

/// The nearest integer between `low` and 255, ties to even; `low` for what is not a number.
#[inline(always)]
pub(crate) fn round(value: f32, low: f32) -> u8 {
    let value = at_least(value, low);
    let value = if value < 255.0 { value } else { 255.0 };
    // Cut to the low bits on purpose.
    (value + ROUND).to_bits() as u8
}

/// One instruction where `f32::max` needs three for a number that is none.
#[inline(always)]
pub(crate) fn at_least(value: f32, low: f32) -> f32 {
    if value > low { value } else { low }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_even_and_stays_in_range() {
        for (value, expected) in
            [(0.5, 0), (1.5, 2), (2.5, 2), (3.49, 3), (254.5, 254), (254.51, 255), (1e9, 255), (-3.0, 0)]
        {
            assert_eq!(round(value, 0.0), expected, "{value}");
        }
        assert_eq!(round(3.0, 7.0), 7);
        assert_eq!(round(f32::NAN, 7.0), 7);
        assert_eq!(round(f32::INFINITY, 7.0), 255);
    }
}

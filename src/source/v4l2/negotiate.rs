//! Which format, size and rate to ask a camera for. Pure; what a driver lists may be nonsense.

use std::cmp::Reverse;
use std::fmt;
use std::time::Duration;

use crate::source::pixels::PixelFormat;

/// Up to this rate uncompressed pixels are taken: they cost no decoding and show no artifacts. It is a
/// third of what isochronous transfers of USB 2 carry, so that another camera finds room on the bus.
const RAW_BYTES_PER_S_MAX: f64 = 8e6;
/// What is assumed of a camera that does not list its rates.
const RATE_ASSUMED: f64 = 30.0;
const NANOS: u128 = 1_000_000_000;

/// Seconds as a fraction, by V4L2's choice the time of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fraction {
    pub numerator: u32,
    pub denominator: u32,
}

impl Fraction {
    /// None of a fraction that is no time.
    pub(super) fn duration(self) -> Option<Duration> {
        if self.numerator == 0 || self.denominator == 0 {
            return None;
        }
        let nanos = u128::from(self.numerator) * NANOS / u128::from(self.denominator);
        u64::try_from(nanos).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    }

    /// Frames a second.
    pub(super) fn rate(self) -> Option<f64> {
        self.duration().map(|_| f64::from(self.denominator) / f64::from(self.numerator))
    }
}

/// One line of a list of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sizes {
    One {
        width: u32,
        height: u32,
    },
    /// Least, greatest and step of each side.
    Range {
        width: (u32, u32, u32),
        height: (u32, u32, u32),
    },
}

impl Sizes {
    /// The least size that holds the wish on both sides, or else the greatest.
    fn nearest(self, (width, height): (u32, u32)) -> (u32, u32) {
        match self {
            Sizes::One { width, height } => (width, height),
            Sizes::Range { width: ws, height: hs } => (side(ws, width), side(hs, height)),
        }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sizes::One { width, height } => write!(f, "{width}x{height}"),
            Sizes::Range { width: (w_min, w_max, _), height: (h_min, h_max, _) } => {
                write!(f, "{w_min}x{h_min} to {w_max}x{h_max}")
            }
        }
    }
}

fn side((least, greatest, step): (u32, u32, u32), wish: u32) -> u32 {
    let steps = wish.saturating_sub(least).div_ceil(step.max(1));
    let reached = least.saturating_add(steps.saturating_mul(step.max(1)));
    if reached <= greatest {
        return reached;
    }
    // The greatest may not be on a step itself.
    least + greatest.saturating_sub(least) / step.max(1) * step.max(1)
}

/// One line of a list of frame intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rates {
    One(Fraction),
    /// A step of zero where every time in between will do.
    Range {
        least: Fraction,
        greatest: Fraction,
        step: Fraction,
    },
}

impl Rates {
    /// The longest time of a frame up to `interval`, or else the least there is.
    fn slowest(self, interval: Duration) -> Option<Fraction> {
        match self {
            Rates::One(fraction) => fraction.duration().map(|_| fraction),
            Rates::Range { least, greatest, step } => {
                let (from, to) = (least.duration()?, greatest.duration()?);
                if interval >= to {
                    return Some(greatest);
                }
                let Some(over) = interval.checked_sub(from) else { return Some(least) };
                // A driver rounds a microsecond, and lists steps of one in practice.
                let micros = match step.duration() {
                    Some(step) => from + step * u32::try_from(over.as_nanos() / step.as_nanos()).ok()?,
                    None => interval,
                };
                let numerator = u32::try_from((micros.as_nanos() + 500) / 1_000).ok()?;
                Some(Fraction { numerator, denominator: 1_000_000 })
            }
        }
    }

    /// The extremes, fastest first, as frames a second.
    pub(super) fn extremes(self) -> Vec<f64> {
        let (first, last) = match self {
            Rates::One(fraction) => (fraction.rate(), None),
            Rates::Range { least, greatest, .. } => (least.rate(), greatest.rate()),
        };
        first.into_iter().chain(last).collect()
    }
}

/// What is wished for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub size: (u32, u32),
    pub interval: Duration,
    /// This format and no other.
    pub format: Option<PixelFormat>,
}

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choice {
    pub format: PixelFormat,
    pub size: (u32, u32),
    /// None where the camera does not list its rates.
    pub time_per_frame: Option<Fraction>,
}

/// The best of what is offered. `sizes` and `rates` list what goes with a format, and with a format and
/// a size; an empty list means that the driver cannot say.
pub(super) fn choose(
    formats: impl IntoIterator<Item = PixelFormat>,
    wish: &Wish,
    sizes: impl Fn(PixelFormat) -> Vec<Sizes>,
    rates: impl Fn(PixelFormat, (u32, u32)) -> Vec<Rates>,
) -> Option<Choice> {
    let wanted = formats.into_iter().filter(|format| wish.format.is_none_or(|only| only == *format));
    let choices = wanted.map(|format| {
        let size = best_size(&sizes(format), wish.size);
        let time_per_frame = slowest(&rates(format, size), wish.interval);
        Choice { format, size, time_per_frame }
    });
    choices.min_by_key(|choice| preference(choice, wish))
}

/// Less is better: a size that holds the wish, then a format that suits the rate, then less to carry.
fn preference(choice: &Choice, wish: &Wish) -> (Fit, Suitability, u64, PixelFormat) {
    let area = u64::from(choice.size.0) * u64::from(choice.size.1);
    (fit(choice.size, wish.size), suitability(choice), area, choice.format)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    HoldsTheWish,
    /// The greater area is the better.
    Falls(Reverse<u64>),
}

fn fit((width, height): (u32, u32), wish: (u32, u32)) -> Fit {
    if width >= wish.0 && height >= wish.1 {
        Fit::HoldsTheWish
    } else {
        Fit::Falls(Reverse(u64::from(width) * u64::from(height)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Suitability {
    LightRaw,
    Compressed,
    HeavyRaw,
    /// A caption without colors is a poorer one.
    Colorless,
}

fn suitability(choice: &Choice) -> Suitability {
    let rate = choice.time_per_frame.and_then(Fraction::rate).unwrap_or(RATE_ASSUMED);
    match (choice.format, choice.format.frame_bytes(choice.size.0, choice.size.1)) {
        (PixelFormat::Grey, _) => Suitability::Colorless,
        (_, None) => Suitability::Compressed,
        (_, Some(bytes)) if bytes as f64 * rate <= RAW_BYTES_PER_S_MAX => Suitability::LightRaw,
        _ => Suitability::HeavyRaw,
    }
}

fn best_size(sizes: &[Sizes], wish: (u32, u32)) -> (u32, u32) {
    let nearest = sizes.iter().map(|sizes| sizes.nearest(wish)).filter(|size| size.0 > 0 && size.1 > 0);
    let area = |size: &(u32, u32)| u64::from(size.0) * u64::from(size.1);
    nearest.min_by_key(|size| (fit(*size, wish), area(size))).unwrap_or(wish)
}

/// The slowest rate that still gives a frame in every `interval`: it spares the bus and the CPU.
pub(super) fn slowest(rates: &[Rates], interval: Duration) -> Option<Fraction> {
    let times = rates.iter().filter_map(|rates| rates.slowest(interval));
    times.max_by_key(|fraction| {
        let time = fraction.duration().unwrap_or_default();
        // Those that are too slow come last, the least slow of them first.
        let serves = time <= interval;
        (serves, if serves { time } else { Duration::MAX - time })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VGA: (u32, u32) = (640, 480);
    const HALF_A_SECOND: Duration = Duration::from_millis(500);

    fn fps(n: u32) -> Fraction {
        Fraction { numerator: 1, denominator: n }
    }

    fn one(width: u32, height: u32) -> Sizes {
        Sizes::One { width, height }
    }

    fn wish(size: (u32, u32)) -> Wish {
        Wish { size, interval: HALF_A_SECOND, format: None }
    }

    /// Every format has the same sizes and rates.
    fn chosen(formats: &[PixelFormat], wish: &Wish, sizes: &[Sizes], rates: &[Rates]) -> Choice {
        choose(formats.iter().copied(), wish, |_| sizes.to_vec(), |_, _| rates.to_vec()).unwrap()
    }

    #[test]
    fn takes_raw_pixels_where_they_are_few_and_mjpg_where_they_are_many() {
        use PixelFormat::{Grey, Mjpg, Nv12, Rgb3, Yuyv};
        let sizes = [one(640, 480), one(1920, 1080)];
        let slow = [Rates::One(fps(30)), Rates::One(fps(5))];
        let format = |formats: &[PixelFormat], size, rates: &[Rates]| {
            chosen(formats, &wish(size), &sizes, rates).format
        };
        assert_eq!(format(&[Mjpg, Yuyv], VGA, &slow), Yuyv, "3 MB/s");
        assert_eq!(format(&[Mjpg, Yuyv], VGA, &[Rates::One(fps(30))]), Mjpg, "18 MB/s");
        assert_eq!(format(&[Mjpg, Yuyv], VGA, &[]), Mjpg, "an unknown rate may be the highest");
        assert_eq!(format(&[Yuyv, Mjpg], (1920, 1080), &slow), Mjpg, "21 MB/s");
        assert_eq!(format(&[Yuyv], (1920, 1080), &slow), Yuyv, "there is no other");
        assert_eq!(format(&[Rgb3, Yuyv, Nv12], VGA, &slow), Nv12, "the least to carry");
        assert_eq!(format(&[Grey, Mjpg], VGA, &slow), Mjpg, "colors count");
        assert_eq!(format(&[Grey], VGA, &slow), Grey);
        assert_eq!(choose([], &wish(VGA), |_| vec![], |_, _| vec![]), None);
    }

    #[test]
    fn a_format_of_the_configuration_is_the_only_one() {
        let forced = Wish { format: Some(PixelFormat::Yuyv), ..wish(VGA) };
        let choice = chosen(&[PixelFormat::Mjpg, PixelFormat::Yuyv], &forced, &[one(640, 480)], &[]);
        assert_eq!(choice.format, PixelFormat::Yuyv);
        assert_eq!(choose([PixelFormat::Mjpg], &forced, |_| vec![], |_, _| vec![]), None);
    }

    #[test]
    fn a_format_that_reaches_the_wished_size_goes_before_one_that_does_not() {
        use PixelFormat::{Mjpg, Yuyv};
        let sizes = |format| if format == Mjpg { vec![one(1280, 720)] } else { vec![one(320, 240)] };
        let rates = |_, _| vec![Rates::One(fps(5))];
        let format = |size| choose([Mjpg, Yuyv], &wish(size), sizes, rates).unwrap().format;
        assert_eq!(format((1280, 720)), Mjpg);
        assert_eq!(format((320, 240)), Yuyv);
        assert_eq!(format((4000, 3000)), Mjpg, "the greater of two that are too small");
    }

    #[test]
    fn chooses_the_least_size_that_holds_the_wish_or_else_the_greatest() {
        let discrete = [one(160, 120), one(1280, 720), one(640, 480), one(800, 400), one(0, 0)];
        assert_eq!(best_size(&discrete, VGA), VGA);
        assert_eq!(best_size(&discrete, (641, 480)), (1280, 720));
        assert_eq!(best_size(&discrete, (1, 1)), (160, 120));
        assert_eq!(best_size(&discrete, (4000, 3000)), (1280, 720));
        assert_eq!(best_size(&[], VGA), VGA, "a driver that cannot say is asked for the wish");
        let range = |step| [Sizes::Range { width: (16, 1920, step), height: (16, 1080, step) }];
        assert_eq!(best_size(&range(16), VGA), VGA);
        assert_eq!(best_size(&range(16), (641, 481)), (656, 496));
        assert_eq!(best_size(&range(16), (1, 1)), (16, 16));
        assert_eq!(best_size(&range(16), (4000, 3000)), (1920, 1072));
        assert_eq!(best_size(&range(0), (641, 481)), (641, 481));
    }

    #[test]
    fn chooses_the_slowest_rate_that_serves_the_interval() {
        let rates = [30, 15, 5, 1].map(|n| Rates::One(fps(n)));
        assert_eq!(slowest(&rates, HALF_A_SECOND), Some(fps(5)));
        assert_eq!(slowest(&rates, Duration::from_millis(200)), Some(fps(5)));
        assert_eq!(slowest(&rates, Duration::from_secs(60)), Some(fps(1)));
        assert_eq!(slowest(&rates, Duration::from_millis(10)), Some(fps(30)), "the fastest there is");
        assert_eq!(slowest(&[], HALF_A_SECOND), None);
        let range = |step| Rates::Range { least: fps(60), greatest: fps(1), step };
        let micros = |numerator| Some(Fraction { numerator, denominator: 1_000_000 });
        assert_eq!(slowest(&[range(fps(10))], HALF_A_SECOND), micros(416_667));
        assert_eq!(
            slowest(&[range(Fraction { numerator: 0, denominator: 0 })], HALF_A_SECOND),
            micros(500_000)
        );
        assert_eq!(slowest(&[range(fps(10))], Duration::from_secs(2)), Some(fps(1)));
        assert_eq!(slowest(&[range(fps(10))], Duration::from_millis(10)), Some(fps(60)));
    }

    #[test]
    fn nonsense_of_a_driver_is_passed_over() {
        let zero = Fraction { numerator: 1, denominator: 0 };
        assert_eq!(slowest(&[Rates::One(zero), Rates::One(fps(5))], HALF_A_SECOND), Some(fps(5)));
        let upside_down = Rates::Range { least: fps(1), greatest: fps(60), step: fps(10) };
        assert!(slowest(&[upside_down], HALF_A_SECOND).is_some());
        let everything = [0, 1, 7, u32::MAX];
        for a in everything {
            for b in everything {
                for c in everything {
                    let sizes = [Sizes::Range { width: (a, b, c), height: (c, b, a) }, one(a, b)];
                    let fraction = |numerator, denominator| Fraction { numerator, denominator };
                    let (least, greatest, step) = (fraction(a, b), fraction(b, c), fraction(c, a));
                    let rates = [Rates::Range { least, greatest, step }, Rates::One(least)];
                    let wish = Wish { size: (c, a), ..wish(VGA) };
                    std::hint::black_box(chosen(&PixelFormat::ALL, &wish, &sizes, &rates));
                }
            }
        }
    }
}

//! The local time of day, for what is to happen at certain hours only.

/// The minute of the local day, 0 to 1439, by the system's time zone.
pub fn minute_of_day() -> u16 {
    let now = jiff::Zoned::now();
    60 * u16::from(now.hour().unsigned_abs()) + u16::from(now.minute().unsigned_abs())
}

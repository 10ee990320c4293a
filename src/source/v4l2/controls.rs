//! Settings of a camera by name: exposure, brightness, the frequency of the lamps. Pure; asking and
//! setting is the device's part.

use std::fmt;

/// A value of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Number(i64),
    Switch(bool),
    /// The text of a menu's entry.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(n) => n.fmt(f),
            Value::Switch(on) => on.fmt(f),
            Value::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// A name and its value, as the configuration has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    pub value: Value,
}

/// What can be set to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    Switch,
    Menu,
    IntegerMenu,
    Button,
    /// Texts, arrays, 64-bit numbers, headings.
    Other,
}

impl Kind {
    /// From `enum v4l2_ctrl_type`.
    pub(super) fn of_driver(kind: u32) -> Kind {
        match kind {
            1 | 8 => Kind::Number,
            2 => Kind::Switch,
            3 => Kind::Menu,
            4 => Kind::Button,
            9 => Kind::IntegerMenu,
            _ => Kind::Other,
        }
    }
}

const FLAG_DISABLED: u32 = 0x0001;
const FLAG_READ_ONLY: u32 = 0x0004;

/// A control that a camera has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Control {
    pub id: u32,
    pub name: String,
    pub kind: Kind,
    /// Least, greatest, step.
    pub range: (i64, i64, u64),
    pub flags: u32,
    /// Numbers and texts of a menu.
    pub entries: Vec<(i64, String)>,
}

/// The kernel renamed these controls of USB cameras in 5.18; one configuration serves both.
const RENAMED: [(&str, &str); 4] = [
    ("exposure_auto", "auto_exposure"),
    ("exposure_absolute", "exposure_time_absolute"),
    ("exposure_auto_priority", "exposure_dynamic_framerate"),
    ("white_balance_temperature_auto", "white_balance_automatic"),
];

/// A name as `v4l2-ctl` writes it: "Exposure, Auto" is `exposure_auto`.
pub fn normalized(name: &str) -> String {
    let mut all = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            all.push(c.to_ascii_lowercase());
        } else if !all.ends_with('_') && !all.is_empty() {
            all.push('_');
        }
    }
    all.trim_end_matches('_').to_owned()
}

/// Letters and digits alone, so that "50hz" finds the entry "50 Hz".
fn bare(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

impl Control {
    fn is_settable(&self) -> bool {
        self.kind != Kind::Other && self.flags & (FLAG_DISABLED | FLAG_READ_ONLY) == 0
    }

    /// What the driver is to be told.
    fn number(&self, value: &Value) -> Result<i32, String> {
        let refused = || format!("must be {} (got {value})", self.allowed());
        if !self.is_settable() {
            return Err("cannot be set".to_owned());
        }
        let (least, greatest, step) = self.range;
        let number = match (self.kind, value) {
            (Kind::Button, Value::Switch(true)) => Some(1),
            (Kind::Switch, Value::Switch(on)) => Some(i64::from(*on)),
            (Kind::Switch, Value::Number(n)) => Some(*n).filter(|n| (0..=1).contains(n)),
            (Kind::Number, Value::Number(n)) => {
                let is_on_step = (i128::from(*n) - i128::from(least)) % i128::from(step.max(1)) == 0;
                Some(*n).filter(|n| (least..=greatest).contains(n) && is_on_step)
            }
            (Kind::Menu | Kind::IntegerMenu, Value::Number(n)) => {
                Some(*n).filter(|n| self.entries.iter().any(|(number, _)| number == n))
            }
            (Kind::Menu | Kind::IntegerMenu, Value::Text(text)) => {
                let is_meant = |entry: &&(i64, String)| bare(&entry.1) == bare(text);
                self.entries.iter().find(is_meant).map(|(number, _)| *number)
            }
            _ => None,
        };
        // Bit masks use the sign as a bit.
        let narrow = |n: i64| i32::try_from(n).ok().or_else(|| u32::try_from(n).ok().map(|n| n as i32));
        number.and_then(narrow).ok_or_else(refused)
    }

    /// For people: what it may be set to.
    pub(super) fn allowed(&self) -> String {
        match self.kind {
            Kind::Switch => "true or false".to_owned(),
            Kind::Button => "true, which presses it".to_owned(),
            Kind::Menu | Kind::IntegerMenu => {
                let entry = |(number, text): &(i64, String)| format!("{number} {text:?}");
                self.entries.iter().map(entry).collect::<Vec<_>>().join(", ")
            }
            Kind::Number | Kind::Other => {
                let (least, greatest, step) = self.range;
                let steps = if step > 1 { format!(" in steps of {step}") } else { String::new() };
                format!("{least} to {greatest}{steps}")
            }
        }
    }

    /// For lists: its name and what it may be set to, if it may be set.
    pub(super) fn entry(&self) -> Option<(String, String)> {
        self.is_settable().then(|| (normalized(&self.name), self.allowed()))
    }
}

/// One thing to tell the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub id: u32,
    pub name: String,
    pub value: i32,
}

/// The setting that cannot be made, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub control: String,
    pub why: String,
}

/// Resolves the settings against what a camera has. Menus and switches come first: a number such as
/// the exposure time is refused or without effect until its automatic has been switched off.
pub(super) fn resolve(settings: &[Setting], controls: &[Control]) -> (Vec<Order>, Vec<Refusal>) {
    let (mut modes, mut numbers, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
    for setting in settings {
        let control = normalized(&setting.name);
        let Some(found) = find(&control, controls) else {
            let known: Vec<String> =
                controls.iter().filter_map(Control::entry).map(|(name, _)| name).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            refusals.push(Refusal { control, why: format!("the camera does not have it; it has: {known}") });
            continue;
        };
        match found.number(&setting.value) {
            Ok(value) => {
                let order = Order { id: found.id, name: control, value };
                if found.kind == Kind::Number { &mut numbers } else { &mut modes }.push(order);
            }
            Err(why) => refusals.push(Refusal { control, why }),
        }
    }
    modes.append(&mut numbers);
    (modes, refusals)
}

fn find<'a>(name: &str, controls: &'a [Control]) -> Option<&'a Control> {
    let of = |name: &str| controls.iter().find(|control| normalized(&control.name) == name);
    of(name).or_else(|| {
        let other = RENAMED.into_iter().find_map(|(old, new)| match name {
            _ if name == old => Some(new),
            _ if name == new => Some(old),
            _ => None,
        });
        other.and_then(of)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(id: u32, name: &str, kind: Kind, range: (i64, i64, u64)) -> Control {
        Control { id, name: name.to_owned(), kind, range, flags: 0, entries: vec![] }
    }

    fn camera() -> Vec<Control> {
        let lamps = [(0, "Disabled"), (1, "50 Hz"), (2, "60 Hz")].map(|(n, text)| (n, text.to_owned()));
        let exposure =
            [(1, "Manual Mode"), (3, "Aperture Priority Mode")].map(|(n, text)| (n, text.to_owned()));
        let menu = |id, name, entries: &[(i64, String)]| Control {
            entries: entries.to_vec(),
            ..control(id, name, Kind::Menu, (0, 3, 1))
        };
        vec![
            control(0, "User Controls", Kind::Other, (0, 0, 0)),
            control(1, "Brightness", Kind::Number, (-64, 64, 1)),
            control(2, "White Balance, Automatic", Kind::Switch, (0, 1, 1)),
            menu(3, "Power Line Frequency", &lamps),
            menu(4, "Auto Exposure", &exposure),
            control(5, "Exposure Time, Absolute", Kind::Number, (10, 1000, 5)),
            control(6, "Pan, Reset", Kind::Button, (0, 0, 0)),
            Control { flags: FLAG_READ_ONLY, ..control(7, "Temperature", Kind::Number, (0, 99, 1)) },
            Control {
                entries: vec![(0, "1000000".to_owned()), (2, "2000000".to_owned())],
                ..control(8, "Link Frequency", Kind::IntegerMenu, (0, 2, 1))
            },
        ]
    }

    fn ordered(name: &str, value: Value) -> Result<i32, String> {
        let setting = Setting { name: name.to_owned(), value };
        match resolve(&[setting], &camera()) {
            (orders, refusals) if refusals.is_empty() => Ok(orders[0].value),
            (_, refusals) => Err(format!("{}: {}", refusals[0].control, refusals[0].why)),
        }
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn names_are_those_of_v4l2_ctl() {
        assert_eq!(normalized("White Balance Temperature, Auto"), "white_balance_temperature_auto");
        assert_eq!(normalized("Exposure (Absolute)"), "exposure_absolute");
        assert_eq!(normalized("  LED1 Mode "), "led1_mode");
        assert_eq!(normalized("power_line_frequency"), "power_line_frequency");
    }

    #[test]
    fn numbers_switches_and_menus_are_set() {
        assert_eq!(ordered("brightness", Value::Number(-64)), Ok(-64));
        assert_eq!(ordered("white_balance_automatic", Value::Switch(true)), Ok(1));
        assert_eq!(ordered("white_balance_automatic", Value::Number(0)), Ok(0));
        assert_eq!(ordered("power_line_frequency", Value::Number(2)), Ok(2));
        assert_eq!(ordered("power_line_frequency", text("50hz")), Ok(1));
        assert_eq!(ordered("Power Line Frequency", text("60 Hz")), Ok(2));
        assert_eq!(ordered("link_frequency", text("2000000")), Ok(2));
        assert_eq!(ordered("pan_reset", Value::Switch(true)), Ok(1));
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_allowed() {
        let cases = [
            ("brightness", Value::Number(65), "brightness: must be -64 to 64 (got 65)"),
            ("brightness", text("high"), "brightness: must be -64 to 64 (got \"high\")"),
            (
                "brightness",
                Value::Number(i64::MIN),
                "brightness: must be -64 to 64 (got -9223372036854775808)",
            ),
            (
                "exposure_time_absolute",
                Value::Number(12),
                "exposure_time_absolute: must be 10 to 1000 in steps of 5 (got 12)",
            ),
            (
                "white_balance_automatic",
                Value::Number(2),
                "white_balance_automatic: must be true or false (got 2)",
            ),
            (
                "power_line_frequency",
                text("70hz"),
                "power_line_frequency: must be 0 \"Disabled\", 1 \"50 Hz\", 2 \"60 Hz\" (got \"70hz\")",
            ),
            ("auto_exposure", Value::Number(2), "auto_exposure: must be 1 \"Manual Mode\", 3 "),
            ("temperature", Value::Number(5), "temperature: cannot be set"),
            ("user_controls", Value::Number(5), "user_controls: cannot be set"),
            (
                "zoom",
                Value::Number(5),
                "zoom: the camera does not have it; it has: brightness, white_balance_",
            ),
        ];
        for (name, value, expected) in cases {
            let why = ordered(name, value).unwrap_err();
            assert!(why.starts_with(expected), "{why}");
        }
    }

    #[test]
    fn the_automatic_is_switched_off_before_the_number_is_set() {
        let settings = [("exposure_absolute", Value::Number(100)), ("exposure_auto", text("manual mode"))];
        let settings = settings.map(|(name, value)| Setting { name: name.to_owned(), value });
        let (orders, refusals) = resolve(&settings, &camera());
        assert_eq!(refusals, [], "the old names of renamed controls are found");
        let orders: Vec<_> = orders.iter().map(|order| (order.id, order.value)).collect();
        assert_eq!(orders, [(4, 1), (5, 100)]);
    }
}

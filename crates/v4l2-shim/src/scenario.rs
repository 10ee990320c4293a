//! What a camera is and how it behaves: a text of one word and its arguments a line.
//!
//! | line | meaning |
//! |---|---|
//! | `card NAME`, `driver NAME`, `bus NAME` | who it is |
//! | `caps N` | its capabilities |
//! | `format CODE` | offers a pixel format; the next two lines belong to it |
//! | `size WIDTH HEIGHT FPS...` | a size with its rates |
//! | `range W_MIN W_MAX W_STEP H_MIN H_MAX H_STEP FPS_MIN FPS_MAX` | a range of sizes and of rates |
//! | `control ID KIND MIN MAX STEP FLAGS NAME` | a control |
//! | `entry INDEX TEXT` | an entry of the menu before it |
//! | `needs ID OTHER VALUE` | a control that is refused until another has a value |
//! | `gives CODE`, `gives_size WIDTH HEIGHT` | what it takes whatever it is asked for |
//! | `stride N`, `colorspace N`, `ycbcr N`, `quantization N` | what it says of its format |
//! | `frame PATH` | the bytes of every buffer |
//! | `flags N` | flags of every buffer |
//! | `period_ms N` | from frame to frame, whatever rate was agreed on |
//! | `silent` | no frame comes |
//! | `hang` | a wait for a frame never ends, time-out or not |
//! | `serial N` | another number: this is another device at the same node |
//! | `fail REQUEST ERRNO` | `open` or a request such as `S_FMT` fails |
//! | `refuse CODE ERRNO` | this pixel format cannot be set |
//! | `narrow CODE` | the bus has no room for this pixel format: the stream does not start |
//!
//! Numbers may be hexadecimal. Unknown words are passed over.

use std::path::PathBuf;

pub(crate) type Code = [u8; 4];

#[derive(Clone, Default)]
pub(crate) struct Scenario {
    pub card: String,
    pub driver: String,
    pub bus: String,
    pub caps: u32,
    pub formats: Vec<Format>,
    pub controls: Vec<Control>,
    pub needs: Vec<[i64; 3]>,
    pub gives: Option<Code>,
    pub gives_size: Option<(u32, u32)>,
    pub stride: u32,
    pub colorspace: u32,
    pub ycbcr: u32,
    pub quantization: u32,
    pub frame: PathBuf,
    pub flags: u32,
    pub period_ms: u64,
    pub is_silent: bool,
    pub hangs: bool,
    pub serial: i64,
    pub failures: Vec<(String, i32)>,
    pub refused: Vec<(Code, i32)>,
    pub narrow: Vec<Code>,
}

#[derive(Clone, Default)]
pub(crate) struct Format {
    pub code: Code,
    /// Two numbers of a size, or six of a range.
    pub sizes: Vec<(Vec<u32>, Vec<u32>)>,
}

#[derive(Clone, Default)]
pub(crate) struct Control {
    pub id: u32,
    pub kind: u32,
    pub min: i64,
    pub max: i64,
    pub step: u64,
    pub flags: u32,
    pub name: String,
    pub entries: Vec<(u32, String)>,
}

impl Scenario {
    pub(crate) fn parse(text: &str) -> Scenario {
        let mut all = Scenario { caps: 0x0420_0001, period_ms: 5, ..Scenario::default() };
        for line in text.lines() {
            all.take(line);
        }
        all
    }

    fn take(&mut self, line: &str) {
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        let numbers: Vec<i64> = words.iter().map_while(|word| number(word)).collect();
        let n = |i: usize| numbers.get(i).copied().unwrap_or_default();
        let unsigned = || numbers.iter().map(|n| *n as u32).collect::<Vec<_>>();
        let first = words.first().copied().unwrap_or_default();
        match word {
            "card" => self.card = rest.to_owned(),
            "driver" => self.driver = rest.to_owned(),
            "bus" => self.bus = rest.to_owned(),
            "caps" => self.caps = n(0) as u32,
            "format" => self.formats.push(Format { code: code(first), sizes: vec![] }),
            "size" | "range" => {
                let sides = if word == "size" { 2 } else { 6 };
                let mut all = unsigned();
                let rates = all.split_off(sides.min(all.len()));
                if let Some(format) = self.formats.last_mut() {
                    format.sizes.push((all, rates));
                }
            }
            "control" => self.controls.push(Control {
                id: n(0) as u32,
                kind: n(1) as u32,
                min: n(2),
                max: n(3),
                step: n(4) as u64,
                flags: n(5) as u32,
                name: words.get(6..).unwrap_or_default().join(" "),
                entries: vec![],
            }),
            "entry" => {
                if let Some(control) = self.controls.last_mut() {
                    control.entries.push((n(0) as u32, words.get(1..).unwrap_or_default().join(" ")));
                }
            }
            "needs" => self.needs.push([n(0), n(1), n(2)]),
            "gives" => self.gives = Some(code(first)),
            "gives_size" => self.gives_size = Some((n(0) as u32, n(1) as u32)),
            "stride" => self.stride = n(0) as u32,
            "colorspace" => self.colorspace = n(0) as u32,
            "ycbcr" => self.ycbcr = n(0) as u32,
            "quantization" => self.quantization = n(0) as u32,
            "frame" => self.frame = rest.into(),
            "flags" => self.flags = n(0) as u32,
            "period_ms" => self.period_ms = n(0) as u64,
            "silent" => self.is_silent = true,
            "hang" => self.hangs = true,
            "serial" => self.serial = n(0),
            "fail" => self.failures.push((first.to_owned(), errno(&words))),
            "narrow" => self.narrow.push(code(first)),
            "refuse" => self.refused.push((code(first), errno(&words))),
            _ => {}
        }
    }

    /// Whether an operation fails, and how.
    pub(crate) fn failure(&self, operation: &str) -> Result<(), i32> {
        match self.failures.iter().find(|(name, _)| name == operation) {
            Some((_, code)) => Err(*code),
            None => Ok(()),
        }
    }

    pub(crate) fn format(&self, code: Code) -> Option<&Format> {
        self.formats.iter().find(|format| format.code == code)
    }
}

fn errno(words: &[&str]) -> i32 {
    words.get(1).and_then(|word| number(word)).unwrap_or_default() as i32
}

fn number(word: &str) -> Option<i64> {
    match word.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

fn code(word: &str) -> Code {
    let mut code = [b' '; 4];
    for (to, from) in code.iter_mut().zip(word.bytes()) {
        *to = from;
    }
    code
}

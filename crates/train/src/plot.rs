//! Plots as SVG, written by hand: lines with bands, bars with intervals, reliability diagrams.
//!
//! A page may be light or dark, whatever the reader's system says it prefers, so nothing is filled behind the plot and
//! every ink is of a middle tone. What the numbers mean is for the callers.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 56.0;
/// Series, in their order: blue, orange, green, purple, told apart by people who see few colours.
const INKS: [&str; 4] = ["#2f81f7", "#d9730d", "#2da44e", "#a371f7"];
const STYLE: &str = "text{font:13px system-ui,sans-serif}";
/// Axes and words: as far from white as from black.
const INK: &str = "#6e7781";
/// Steps between two ticks at most.
const N_TICKS: f64 = 7.0;

/// What is along one side, with its unit in the label.
#[derive(Clone, Debug)]
pub struct Axis {
    pub label: String,
    pub min: f64,
    pub max: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    /// Ends of the interval around `y`.
    pub low: f64,
    pub high: f64,
}

/// Points from left to right.
#[derive(Clone, Debug)]
pub struct Line {
    pub name: String,
    pub points: Vec<Point>,
}

/// A value with its interval.
#[derive(Clone, Debug)]
pub struct Bar {
    pub name: String,
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// A level or place with a name, drawn as a dashed line.
#[derive(Clone, Debug)]
pub struct Mark {
    pub name: String,
    pub at: f64,
}

/// A dot of a reliability diagram: answers of about one confidence.
#[derive(Clone, Copy, Debug)]
pub struct Dot {
    /// 0 to 1.
    pub confidence: f64,
    /// 0 to 1.
    pub accuracy: f64,
    pub n: usize,
}

/// Lines with their bands over a number; `marks` are places on the x axis.
pub fn lines(title: &str, x: &Axis, y: &Axis, lines: &[Line], marks: &[Mark]) -> String {
    let mut canvas = Canvas::new(title, x.clone(), y.clone());
    canvas.ticks_x();
    for (line, ink) in lines.iter().zip(INKS.iter().cycle()) {
        canvas.band(&line.points, ink);
    }
    for (line, ink) in lines.iter().zip(INKS.iter().cycle()) {
        canvas.line(&line.points, ink);
    }
    for mark in marks {
        canvas.upright(mark);
    }
    canvas.legend(lines.iter().map(|line| line.name.as_str()));
    canvas.finish()
}

/// Bars from zero with their intervals; `level` is a place on the y axis.
pub fn bars(title: &str, y: &Axis, bars: &[Bar], level: Option<&Mark>) -> String {
    let x = Axis { label: String::new(), min: 0.0, max: bars.len().max(1) as f64 };
    let mut canvas = Canvas::new(title, x, y.clone());
    for (place, bar) in bars.iter().enumerate() {
        canvas.bar(place as f64 + 0.5, bar);
    }
    if let Some(level) = level {
        canvas.level(level);
    }
    canvas.finish()
}

/// How often answers of some confidence are right, beside the diagonal of perfect calibration. The area of a dot grows
/// with the number of answers.
pub fn reliability(title: &str, dots: &[Dot]) -> String {
    let axis = |label: &str| Axis { label: label.to_owned(), min: 0.0, max: 1.0 };
    let mut canvas = Canvas::new(title, axis("confidence (0 to 1)"), axis("share of right answers (0 to 1)"));
    canvas.ticks_x();
    canvas.diagonal();
    let most = dots.iter().map(|dot| dot.n).max().unwrap_or(1).max(1) as f64;
    for dot in dots.iter().filter(|dot| dot.n > 0) {
        canvas.dot(dot, 4.0 + 12.0 * (dot.n as f64 / most).sqrt());
    }
    canvas.finish()
}

/// A drawing in the making.
struct Canvas {
    x: Axis,
    y: Axis,
    svg: String,
}

impl Canvas {
    /// Title, frame, and the ticks of the y axis.
    fn new(title: &str, x: Axis, y: Axis) -> Canvas {
        let title = escaped(title);
        let mut canvas = Canvas { x, y, svg: String::new() };
        canvas.add(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>"
        ));
        canvas.text(LEFT, 20.0, "start", &title);
        for tick in ticks(canvas.y.min, canvas.y.max) {
            let at = canvas.at_y(tick);
            canvas.stroke((LEFT, at), (WIDTH - RIGHT, at), "0.5", "stroke-opacity=\"0.3\"");
            canvas.text(LEFT - 8.0, at + 4.0, "end", &short(tick));
        }
        let (bottom, left) = (HEIGHT - BOTTOM, (LEFT, TOP));
        canvas.stroke((LEFT, bottom), (WIDTH - RIGHT, bottom), "1", "");
        canvas.stroke(left, (LEFT, bottom), "1", "");
        let (x, y) = (escaped(&canvas.x.label), escaped(&canvas.y.label));
        canvas.text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 12.0, "middle", &x);
        let middle = (TOP + bottom) / 2.0;
        canvas.add(format_args!(
            "<text fill=\"{INK}\" text-anchor=\"middle\" \
             transform=\"translate(16 {middle:.1}) rotate(-90)\">{y}</text>"
        ));
        canvas
    }

    fn finish(mut self) -> String {
        self.svg += "</svg>\n";
        self.svg
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _always = writeln!(self.svg, "{element}").is_ok();
    }

    fn at_x(&self, value: f64) -> f64 {
        LEFT + (value - self.x.min) / (self.x.max - self.x.min) * (WIDTH - LEFT - RIGHT)
    }

    fn at_y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (value - self.y.min) / (self.y.max - self.y.min) * (HEIGHT - TOP - BOTTOM)
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        self.add(format_args!(
            "<text fill=\"{INK}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    /// A line in the ink of the axes.
    fn stroke(&mut self, from: (f64, f64), to: (f64, f64), width: &str, more: &str) {
        self.add(format_args!(
            "<line stroke=\"{INK}\" stroke-width=\"{width}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" \
             y2=\"{:.1}\" {more}/>",
            from.0, from.1, to.0, to.1
        ));
    }

    fn ticks_x(&mut self) {
        let bottom = HEIGHT - BOTTOM;
        for tick in ticks(self.x.min, self.x.max) {
            let at = self.at_x(tick);
            self.stroke((at, bottom), (at, bottom + 5.0), "1", "");
            self.text(at, bottom + 20.0, "middle", &short(tick));
        }
    }

    fn path(&self, points: impl Iterator<Item = (f64, f64)>) -> String {
        points.map(|(x, y)| format!("{:.1},{:.1}", self.at_x(x), self.at_y(y))).collect::<Vec<_>>().join(" ")
    }

    fn band(&mut self, points: &[Point], ink: &str) {
        let upper = points.iter().map(|point| (point.x, point.high));
        let lower = points.iter().rev().map(|point| (point.x, point.low));
        let outline = self.path(upper.chain(lower));
        self.add(format_args!("<polygon points=\"{outline}\" fill=\"{ink}\" fill-opacity=\"0.2\"/>"));
    }

    fn line(&mut self, points: &[Point], ink: &str) {
        let path = self.path(points.iter().map(|point| (point.x, point.y)));
        self.add(format_args!(
            "<polyline points=\"{path}\" fill=\"none\" stroke=\"{ink}\" stroke-width=\"2\"/>"
        ));
        for point in points {
            let (x, y) = (self.at_x(point.x), self.at_y(point.y));
            self.add(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{ink}\"/>"));
        }
    }

    fn upright(&mut self, mark: &Mark) {
        let at = self.at_x(mark.at);
        self.stroke((at, TOP), (at, HEIGHT - BOTTOM), "1.5", "stroke-dasharray=\"5 4\"");
        self.text(at + 6.0, TOP + 10.0, "start", &escaped(&mark.name));
    }

    fn level(&mut self, mark: &Mark) {
        let at = self.at_y(mark.at);
        self.stroke((LEFT, at), (WIDTH - RIGHT, at), "1.5", "stroke-dasharray=\"5 4\"");
        // Above the plot, where no bar stands.
        self.stroke((LEFT, 38.0), (LEFT + 24.0, 38.0), "1.5", "stroke-dasharray=\"5 4\"");
        self.text(LEFT + 30.0, 42.0, "start", &escaped(&mark.name));
    }

    fn bar(&mut self, place: f64, bar: &Bar) {
        let (middle, half) = (self.at_x(place), 0.3 * (self.at_x(1.0) - self.at_x(0.0)));
        let (top, bottom) = (self.at_y(bar.value), self.at_y(self.y.min));
        self.add(format_args!(
            "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\" fill-opacity=\"0.75\"/>",
            middle - half,
            2.0 * half,
            bottom - top,
            INKS[0]
        ));
        let (low, high) = (self.at_y(bar.low), self.at_y(bar.high));
        self.stroke((middle, low), (middle, high), "1.5", "");
        for end in [low, high] {
            self.stroke((middle - 5.0, end), (middle + 5.0, end), "1.5", "");
        }
        self.text(middle, HEIGHT - BOTTOM + 20.0, "middle", &escaped(&bar.name));
    }

    fn diagonal(&mut self) {
        let (from, to) = ((self.at_x(0.0), self.at_y(0.0)), (self.at_x(1.0), self.at_y(1.0)));
        self.stroke(from, to, "1", "stroke-dasharray=\"5 4\"");
    }

    fn dot(&mut self, dot: &Dot, radius: f64) {
        let (x, y) = (self.at_x(dot.confidence), self.at_y(dot.accuracy));
        let (ink, n) = (INKS[0], dot.n);
        self.add(format_args!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"{ink}\" fill-opacity=\"0.75\">\
             <title>{n} answers</title></circle>"
        ));
    }

    fn legend<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let mut at = LEFT;
        for (name, ink) in names.zip(INKS.iter().cycle()) {
            self.add(format_args!(
                "<rect x=\"{at:.1}\" y=\"32\" width=\"14\" height=\"10\" fill=\"{ink}\"/>"
            ));
            self.text(at + 20.0, 42.0, "start", &escaped(name));
            at += 44.0 + 7.0 * name.chars().count() as f64;
        }
    }
}

/// Round numbers between the two, a one, two or five of some power of ten apart.
fn ticks(min: f64, max: f64) -> Vec<f64> {
    let rough = (max - min).abs().max(1e-9) / N_TICKS;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough).unwrap_or(power);
    let (first, last) = ((min / step - 1e-9).ceil() as i64, (max / step + 1e-9).floor() as i64);
    (first..=last).map(|k| k as f64 * step).collect()
}

/// Without the zeros that say nothing.
fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(label: &str, max: f64) -> Axis {
        Axis { label: label.to_owned(), min: 0.0, max }
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(
            ticks(0.0, 1.0).iter().map(|t| short(*t)).collect::<Vec<_>>().join(" "),
            "0 0.2 0.4 0.6 0.8 1"
        );
        for max in [0.03, 0.47, 1.2, 9.0, 1234.0] {
            let n = ticks(0.0, max).len();
            assert!((4..=8).contains(&n), "{n} ticks up to {max}");
        }
    }

    #[test]
    fn points_stand_where_the_axes_say() {
        let points = vec![
            Point { x: 0.0, y: 0.0, low: 0.0, high: 0.1 },
            Point { x: 1.0, y: 0.5, low: 0.4, high: 0.5 },
        ];
        let svg = lines(
            "t",
            &axis("x", 1.0),
            &axis("y", 0.5),
            &[Line { name: "one".to_owned(), points }],
            &[Mark { name: "here".to_owned(), at: 0.5 }],
        );
        assert!(svg.contains("<polyline points=\"64.0,344.0 700.0,56.0\""), "{svg}");
        assert!(svg.contains("x1=\"382.0\" y1=\"56.0\" x2=\"382.0\" y2=\"344.0\""), "{svg}");
    }

    #[test]
    fn names_cannot_break_the_drawing() {
        let bar = Bar { name: "a<b & c".to_owned(), value: 0.2, low: 0.1, high: 0.3 };
        let svg = bars("x > y", &axis("y", 1.0), &[bar], None);
        assert!(svg.contains("a&lt;b &amp; c") && svg.contains("x &gt; y"));
    }

    #[test]
    fn empty_bins_leave_no_dot() {
        let dot = |n| Dot { confidence: 0.5, accuracy: 0.25, n };
        let svg = reliability("r", &[dot(0), dot(10)]);
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(svg.contains("<circle cx=\"382.0\" cy=\"272.0\" r=\"16.0\""), "{svg}");
    }
}

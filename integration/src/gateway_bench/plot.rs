//! Plots of a run: SVG of lines and words, both axes logarithmic.

use std::fmt::Write as _;

use super::results::{Results, RowResult};
use super::rows::Variant;

/// The plot of costs.
pub(super) const RATIOS: &str = "ratios.svg";
/// The plot of updates.
pub(super) const UPDATES: &str = "updates.svg";
/// The plot of memory.
pub(super) const MEMORY: &str = "memory.svg";

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
/// Room for words on each side.
const LEFT: f64 = 60.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 44.0;
/// Colours that the colour-blind tell apart (Okabe and Ito).
const COLOURS: [&str; 5] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9"];

/// One line.
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Every plot, by file name.
#[must_use]
pub fn plots(run: &Results) -> Vec<(&'static str, String)> {
    const FILTERS: [Variant; 4] = [
        Variant::Module,
        Variant::Rbac,
        Variant::RbacTree,
        Variant::Lua,
    ];
    let by_filter = |value: fn(&RowResult) -> f64| {
        FILTERS
            .map(|variant| by_rules(run, variant, value))
            .into_iter()
            .filter(|series| !series.points.is_empty())
            .collect::<Vec<_>>()
    };
    let updates = |name: &str, value: fn(&super::results::UpdateResult) -> f64| Series {
        name: name.to_owned(),
        points: run
            .updates
            .iter()
            .map(|update| (f64::from(update.rules), value(update)))
            .collect(),
    };
    let mut plots = vec![
        (
            RATIOS,
            plot(
                "Processor time per accepted request, bare gateway = 1",
                &by_filter(|row| row.ratio.median),
            ),
        ),
        (
            MEMORY,
            plot(
                "Resident memory of the gateway, MiB",
                &by_filter(|row| row.resident_mebibytes),
            ),
        ),
    ];
    if !run.updates.is_empty() {
        let lines = [
            updates("during an update", |update| {
                update.worst_milliseconds.median
            }),
            updates("before it", |update| update.calm_worst_milliseconds.median),
        ];
        plots.push((UPDATES, plot("Longest latency of a request, ms", &lines)));
    }
    plots
}

/// A filter's line for accepted requests of HTTP/1.1.
fn by_rules(run: &Results, variant: Variant, value: fn(&RowResult) -> f64) -> Series {
    let prefix = format!("http1/{}/", variant.id());
    let rows = run.rows.iter().filter_map(|row| {
        let rules: u32 = row.id.strip_prefix(&prefix)?.parse().ok()?;
        Some((f64::from(rules), value(row)))
    });
    let mut points: Vec<_> = rows.collect();
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    Series {
        name: variant.title().to_owned(),
        points,
    }
}

/// A scale from a value to a place.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// From a power of ten to a power of ten.
    fn over(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min).max(1e-3);
        let high = values.fold(f64::NEG_INFINITY, f64::max).max(low);
        let (low, high) = (low.log10().floor(), high.log10().ceil());
        Self {
            low,
            high: if high > low { high } else { low + 1.0 },
            from,
            to,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.max(1e-3).log10() - self.low) / (self.high - self.low);
        self.from + share * (self.to - self.from)
    }

    /// Powers of ten, and twice and five times them.
    fn marks(&self, finer: bool) -> Vec<f64> {
        let mut marks = Vec::new();
        let mut power = self.low;
        while power <= self.high {
            let steps: &[f64] = if finer { &[1.0, 2.0, 5.0] } else { &[1.0] };
            marks.extend(steps.iter().map(|step| step * 10_f64.powf(power)));
            power += 1.0;
        }
        marks.retain(|mark| mark.log10() <= self.high + 1e-9);
        marks
    }
}

fn plot(title: &str, all: &[Series]) -> String {
    let points = || all.iter().flat_map(|series| series.points.iter().copied());
    let x = Scale::over(points().map(|(x, _)| x), LEFT, WIDTH - RIGHT);
    let y = Scale::over(points().map(|(_, y)| y), HEIGHT - BOTTOM, TOP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{title}</text>\n"
    );
    let (left, right, top, bottom) = (LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM);
    // Writing to a String does not fail.
    for mark in y.marks(y.high - y.low < 2.5) {
        let at = y.place(mark);
        let _ = write!(
            svg,
            "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#ddd\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{mark}</text>\n",
            left - 6.0,
            at + 4.0
        );
    }
    for mark in x.marks(false) {
        let at = x.place(mark);
        let _ = write!(
            svg,
            "<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"#ddd\"/>\n\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{mark}</text>\n",
            bottom + 16.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">rules</text>",
        f64::midpoint(left, right),
        HEIGHT - 10.0
    );
    for (series, colour) in all.iter().zip(COLOURS.iter().cycle()) {
        line(&mut svg, series, colour, (&x, &y));
    }
    legend(&mut svg, all);
    svg.push_str("</svg>\n");
    svg
}

fn line(svg: &mut String, series: &Series, colour: &str, (x, y): (&Scale, &Scale)) {
    let places: Vec<_> = series
        .points
        .iter()
        .map(|(rules, value)| (x.place(*rules), y.place(*value)))
        .collect();
    let path: Vec<_> = places
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    let path = path.join(" ");
    let _ = writeln!(
        svg,
        "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
    );
    for (x, y) in places {
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
        );
    }
}

fn legend(svg: &mut String, all: &[Series]) {
    let mut at = TOP + 10.0;
    let left = WIDTH - RIGHT + 12.0;
    for (series, colour) in all.iter().zip(COLOURS.iter().cycle()) {
        let _ = write!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\n\
             <text x=\"{:.1}\" y=\"{at:.1}\">{}</text>\n",
            at - 9.0,
            left + 16.0,
            series.name
        );
        at += 18.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_goes_from_power_to_power() {
        let scale = Scale::over([1.2, 17.0].into_iter(), 0.0, 200.0);
        let places: Vec<_> = [1.0, 10.0, 100.0]
            .map(|value| scale.place(value).round())
            .into();
        assert_eq!(format!("{places:?}"), "[0.0, 100.0, 200.0]");
        assert_eq!(format!("{:?}", scale.marks(false)), "[1.0, 10.0, 100.0]");
        let marks = scale.marks(true);
        assert_eq!(
            format!("{marks:?}"),
            "[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]"
        );
    }
}

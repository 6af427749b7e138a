//! `cargo xtask bench`: time per verdict by shape and size.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use egress_bench::Shape;
use egress_bench::measure::{Figures, MAX_RATIO, measure};

/// Sizes that are compared: the first and the last are held against each other.
const SIZES: [u32; 3] = [100, 10_000, 100_000];

/// Time per verdict as the number of rules grows, and whether it stays within its bound.
#[derive(Parser)]
struct Arguments {
    /// Only this shape.
    shape: Option<Shape>,
    /// Samples of 256 verdicts at each size.
    #[arg(long, default_value_t = 301)]
    samples: usize,
}

fn main() -> ExitCode {
    let Arguments { shape, samples } = Arguments::parse();
    let shapes = shape.map_or(Shape::ALL.to_vec(), |shape| vec![shape]);
    say(
        "CPU time of one verdict (median) and of loading the policy; ratio of the largest to the smallest size\n",
    );
    say("shape                   rules   JSON KiB   load ms   ns/verdict   accept  open   ratio");
    let mut within = true;
    for shape in shapes {
        match measure(shape, &SIZES, samples) {
            Ok(figures) => within &= report(shape, &figures),
            Err(error) => {
                say(&format!("{}: {error}", name(shape)));
                within = false;
            }
        }
    }
    say(&format!(
        "\nbound: ratio at most {MAX_RATIO}: {}",
        if within { "kept" } else { "BROKEN" }
    ));
    if within {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn report(shape: Shape, figures: &[Figures]) -> bool {
    let ratio = figures
        .last()
        .zip(figures.first())
        .map_or(f64::NAN, |(large, small)| large.median / small.median);
    for (i, f) in figures.iter().enumerate() {
        let last = i + 1 == figures.len();
        let ratio = if last {
            format!("{ratio:7.2}")
        } else {
            String::new()
        };
        say(&format!(
            "{:20} {:>8} {:>10} {:>9.1} {:>12.0} {:>7.0}% {:>4.0}% {ratio}",
            name(shape),
            f.rules,
            f.bytes / 1024,
            f.load.as_secs_f64() * 1e3,
            f.median,
            f.accepted * 100.0,
            f.undecided * 100.0,
        ));
    }
    ratio <= MAX_RATIO
}

fn name(shape: Shape) -> String {
    shape
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

#[expect(
    clippy::print_stdout,
    reason = "the one place where the command prints"
)]
fn say(line: &str) {
    println!("{line}");
}

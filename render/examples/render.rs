//! Renders `INSTALL POLICY...` to standard output.

use std::error::Error;
use std::io::Write;

fn main() -> Result<(), Box<dyn Error>> {
    let mut files = std::env::args().skip(1);
    let install = files.next().ok_or("usage: render INSTALL POLICY...")?;
    let install = serde_saphyr::from_str(&std::fs::read_to_string(install)?)?;
    let mut policies = Vec::new();
    for path in files {
        policies.push(serde_saphyr::from_str(&std::fs::read_to_string(path)?)?);
    }
    let rendered = egress_render::render(&install, &policies).map_err(|problems| {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    std::io::stdout().write_all(rendered.yaml().as_bytes())?;
    Ok(())
}

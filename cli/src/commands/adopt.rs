//! `warden render --adopt`: what a mesh already has that collides with what is rendered.

use egress_render::adopt::{self, Collision};
use egress_render::{Install, Rendered};
use serde_json::json;

use super::manifests::read_text;
use crate::Console;
use crate::exit::{Exit, Failure};
use crate::report::Output;

/// Says every collision; [`Exit::Defects`] if there is one.
pub(super) fn run(
    install: &Install,
    rendered: &Rendered,
    files: &[String],
    output: Output,
    console: &mut Console<'_>,
) -> Result<Exit, Failure> {
    let mut existing = Vec::new();
    for file in files {
        let text = read_text(file, console)?;
        let objects = adopt::read(&text)
            .map_err(|problem| Failure::new(format!("{file}: {}", problem.message())))?;
        existing.extend(objects);
    }
    let found = adopt::collisions(install, rendered, &existing);
    if output == Output::Json {
        let collisions: Vec<_> = found.iter().map(as_json).collect();
        let report = json!({"objects": existing.len(), "collisions": collisions});
        writeln!(console.stdout, "{report:#}")?;
    } else {
        for collision in &found {
            let code = collision.code.word();
            writeln!(console.stdout, "{} ({code})", collision.object)?;
            writeln!(console.stdout, "  {}", collision.message)?;
            writeln!(console.stdout, "  help: {}", collision.remedy)?;
        }
        let (all, count) = (existing.len(), found.len());
        writeln!(console.stdout, "{all} objects read, {count} collisions")?;
    }
    Ok(if found.is_empty() {
        Exit::Ok
    } else {
        Exit::Defects
    })
}

fn as_json(collision: &Collision) -> serde_json::Value {
    json!({
        "object": collision.object,
        "code": collision.code.word(),
        "message": collision.message,
        "remedy": collision.remedy,
    })
}

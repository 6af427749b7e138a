//! `warden render --adopt`: what a mesh already has that collides with what is rendered.

use egress_render::adopt::{self, Collision};
use egress_render::{Install, Rendered};
use schemars::JsonSchema;
use serde::Serialize;

use super::manifests::read_text;
use crate::Console;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Report};

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
    let report = AdoptReport {
        objects: existing.len(),
        collisions: adopt::collisions(install, rendered, &existing),
    };
    output.write(&report, console)?;
    Ok(if report.collisions.is_empty() {
        Exit::Ok
    } else {
        Exit::Defects
    })
}

/// What of a mesh's own objects collides with the rendering (`--adopt`).
#[derive(Serialize, JsonSchema)]
pub(crate) struct AdoptReport {
    /// Objects read.
    objects: usize,
    /// Each collision, sorted.
    collisions: Vec<Collision>,
}

impl Report for AdoptReport {
    fn human(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        let out = &mut *console.stdout;
        for collision in &self.collisions {
            let code = collision.code.word();
            writeln!(out, "{} ({code})", collision.object)?;
            writeln!(out, "  {}", collision.message)?;
            writeln!(out, "  help: {}", collision.remedy)?;
        }
        let (all, count) = (self.objects, self.collisions.len());
        Ok(writeln!(out, "{all} objects read, {count} collisions")?)
    }
}

//! JSON Schemas of what `--output json` writes, made from the types that are written. Every run of a
//! command in the tests is held to them.

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform as _};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::commands::adopt::AdoptReport;
use crate::commands::check::CheckReport;
use crate::commands::docs::Page;
use crate::commands::doctor::DoctorReport;
use crate::commands::fmt::FmtReport;
use crate::commands::package::PackageReport;
use crate::commands::render::RenderReport;
use crate::commands::revoke::RevokeReport;
use crate::commands::rollback::RollbackReport;
use crate::commands::test::TestReport;
use crate::commands::verify::GatewayReport;
use crate::report::Refusal;
use crate::verify::PodReport;
use egress_analysis::access::Access;
use egress_analysis::diff::ComparisonReport;
use egress_analysis::explain::Answer;

/// The commands with an output in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Command {
    /// `warden check`.
    Check,
    /// `warden explain`.
    Explain,
    /// `warden who`.
    Who,
    /// `warden what`.
    What,
    /// `warden test`.
    Test,
    /// `warden diff`.
    Diff,
    /// `warden doctor`.
    Doctor,
    /// `warden render`, and its `--adopt`.
    Render,
    /// `warden verify`.
    Verify,
    /// `warden package`.
    Package,
    /// `warden fmt`.
    Fmt,
    /// `warden docs`.
    Docs,
    /// `warden rollback`.
    Rollback,
    /// `warden revoke`.
    Revoke,
}

impl Command {
    /// Every such command.
    pub(crate) const ALL: [Self; 14] = [
        Self::Check,
        Self::Explain,
        Self::Who,
        Self::What,
        Self::Test,
        Self::Diff,
        Self::Doctor,
        Self::Render,
        Self::Verify,
        Self::Package,
        Self::Fmt,
        Self::Docs,
        Self::Rollback,
        Self::Revoke,
    ];

    /// Its word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Explain => "explain",
            Self::Who => "who",
            Self::What => "what",
            Self::Test => "test",
            Self::Diff => "diff",
            Self::Doctor => "doctor",
            Self::Render => "render",
            Self::Verify => "verify",
            Self::Package => "package",
            Self::Fmt => "fmt",
            Self::Docs => "docs",
            Self::Rollback => "rollback",
            Self::Revoke => "revoke",
        }
    }

    /// What it writes. What several results hold becomes a definition of the generator.
    fn result(self, generator: &mut SchemaGenerator) -> Schema {
        match self {
            Self::Check => CheckReport::json_schema(generator),
            Self::Explain => Answer::json_schema(generator),
            Self::Who | Self::What => Access::json_schema(generator),
            Self::Test => TestReport::json_schema(generator),
            Self::Diff => ComparisonReport::json_schema(generator),
            Self::Doctor => DoctorReport::json_schema(generator),
            Self::Render => json_schema!({"anyOf": [
                AdoptReport::json_schema(generator),
                RenderReport::json_schema(generator),
            ]}),
            Self::Verify => json_schema!({"anyOf": [
                GatewayReport::json_schema(generator),
                PodReport::json_schema(generator),
            ]}),
            Self::Package => PackageReport::json_schema(generator),
            Self::Fmt => FmtReport::json_schema(generator),
            Self::Docs => Page::json_schema(generator),
            Self::Rollback => RollbackReport::json_schema(generator),
            Self::Revoke => RevokeReport::json_schema(generator),
        }
    }
}

/// All outputs as definitions in one schema (JSON Schema 2020-12).
pub(crate) fn output_schemas() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut generator = settings.into_generator();
    let mut definitions = Map::new();
    for command in Command::ALL {
        let result = command.result(&mut generator);
        let refusal = generator.subschema_for::<Refusal<'static>>();
        let either = match command {
            // Defects are what they report.
            Command::Check | Command::Fmt => result,
            _ => json_schema!({"anyOf": [result, refusal]}),
        };
        definitions.insert(command.as_str().to_owned(), either.to_value());
    }
    definitions.extend(generator.take_definitions(true));
    let mut schema = json_schema!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What `warden COMMAND --output json` writes: one definition a command",
        "$defs": definitions,
    });
    RecursiveTransform(close).transform(&mut schema);
    schema.to_value()
}

/// A result has the fields of its type and no others.
fn close(schema: &mut Schema) {
    if schema.get("properties").is_some() && schema.get("additionalProperties").is_none() {
        schema.insert("additionalProperties".to_owned(), false.into());
    }
}

/// The schema of one command's output.
pub(crate) fn output_schema(command: Command) -> Value {
    let mut schema = output_schemas();
    let reference = json!(format!("#/$defs/{}", command.as_str()));
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$ref".to_owned(), reference);
    }
    schema
}

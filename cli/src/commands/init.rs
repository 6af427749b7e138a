//! `warden init`: files to begin with.

use std::path::Path;

use crate::Console;
use crate::exit::{Exit, Failure};
use crate::schema::{cases_schema, policy_schema, settings_schema};

/// What stands in the workflow for the action's address.
const ACTION: &str = "OWNER/egress-warden@COMMIT";

/// The files, and what each is for.
const FILES: [(&str, &str, &str); 4] = [
    (
        "policy.yaml",
        include_str!("init/policy.yaml"),
        "who may reach what",
    ),
    (
        "install.yaml",
        include_str!("init/install.yaml"),
        "where it is enforced",
    ),
    (
        "cases.yaml",
        include_str!("init/cases.yaml"),
        "questions with their answers: the policy's tests",
    ),
    (
        ".github/workflows/egress.yml",
        include_str!("init/egress.yml"),
        "checks of every pull request",
    ),
];

/// Where the schemas are, which the first lines of the files name.
const SCHEMAS: &str = ".schemas";

/// Write files to begin with: a policy, install settings, cases and a workflow for GitHub Actions,
/// with comments, and the schemas by which an editor completes and checks them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  warden init                      # in the root of a repository
  warden init egress
  warden init --force              # take the files back to where they began
  warden init --action my-org/egress-warden@v1

What it writes passes:
  warden check .
  warden test .
  warden render --install install.yaml policy.yaml")]
pub(crate) struct Init {
    /// The folder, which is made where it is missing.
    #[arg(value_name = "DIR", default_value = ".")]
    directory: String,
    /// Replace files that are there already.
    #[arg(long)]
    force: bool,
    /// The repository and version of the action that the workflow uses.
    #[arg(long, value_name = "OWNER/NAME@REF", default_value = ACTION)]
    action: String,
}

impl Init {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let folder = console.directory.join(&self.directory);
        let files = self.files();
        let existing = files.iter().map(|(name, _)| name.as_str());
        let existing: Vec<&str> = existing.filter(|name| folder.join(name).exists()).collect();
        if !existing.is_empty() && !self.force {
            let verb = if existing.len() == 1 { "is" } else { "are" };
            let names = existing.join(", ");
            return Err(Failure::new(format!("{names} {verb} there already"))
                .with_hint("`--force` replaces them; nothing was written"));
        }
        for (name, text) in &files {
            write(&folder, name, text)?;
        }
        for (name, _, what) in FILES {
            writeln!(console.stdout, "{name:<30}{what}")?;
        }
        writeln!(
            console.stdout,
            "{:<30}what editors complete and check them by",
            format!("{SCHEMAS}/")
        )?;
        Ok(writeln!(console.stdout, "\n{}", self.next())?).map(|()| Exit::Ok)
    }

    /// Every file with its text.
    fn files(&self) -> Vec<(String, String)> {
        let texts =
            FILES.map(|(name, text, _)| (name.to_owned(), text.replace(ACTION, &self.action)));
        let schemas = [
            ("policy", policy_schema()),
            ("settings", settings_schema()),
            ("cases", cases_schema()),
        ];
        let schemas = schemas.map(|(name, schema)| {
            (
                format!("{SCHEMAS}/{name}.schema.json"),
                format!("{schema:#}\n"),
            )
        });
        texts.into_iter().chain(schemas).collect()
    }

    /// What to do with them.
    fn next(&self) -> String {
        let enter = match self.directory.as_str() {
            "." => String::new(),
            directory => format!("  cd {directory}\n"),
        };
        let action = if self.action == ACTION {
            format!("\nin .github/workflows/egress.yml, {ACTION} is yours to fill in")
        } else {
            String::new()
        };
        format!(
            "next:\n{enter}  warden check .\n  warden test .\n  \
             warden render --install install.yaml --output-dir rendered policy.yaml{action}"
        )
    }
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), Failure> {
    let path = folder.join(name);
    let failed = |error: std::io::Error| Failure::new(format!("`{name}`: {error}"));
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    std::fs::write(path, text).map_err(failed)
}

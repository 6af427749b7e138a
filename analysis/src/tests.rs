//! Random policies, and what holds of every one of them.

pub(crate) mod random;
mod unreachable;

use crate::Diagnostic;
use crate::document::Node;
use crate::files::Files;
use crate::settings::InstallSettings;

/// 2026-12-01T00:00:00Z.
pub(crate) const NOW: i64 = 1_796_083_200;

/// Nothing lies beside the policies.
pub(crate) struct NoFiles;

impl Files for NoFiles {
    fn list(&self, _: &str) -> Result<Vec<u8>, String> {
        Err("there are no files".to_owned())
    }

    fn settings(&self, _: Node<'_>) -> Result<InstallSettings, Vec<Diagnostic>> {
        Err(Vec::new())
    }
}

//! What a bundle may need beside the texts that it is read from.

use crate::diagnostic::Diagnostic;
use crate::document::Node;
use crate::settings::InstallSettings;

/// What reading may need beside the texts.
pub trait Files {
    /// The bytes of a list, by the path that messages call it by.
    ///
    /// # Errors
    /// Why it cannot be read, for a message.
    fn list(&self, path: &str) -> Result<Vec<u8>, String>;

    /// The install settings of a document of their kind.
    ///
    /// # Errors
    /// What is wrong with them.
    fn settings(&self, document: Node<'_>) -> Result<InstallSettings, Vec<Diagnostic>>;
}

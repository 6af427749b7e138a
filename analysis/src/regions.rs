//! Policies over classes of facts: for every fact, values that no condition tells apart are one class.
//!
//! A [`partition`] holds the classes, [`compiled`] policies are lists of entries over them, and
//! [`explore`] splits regions of classes until two programs are decided everywhere. What comes of it is
//! put together ([`merged`]), told in [`words`] and made into facts again ([`describe`]).

pub(crate) mod compiled;
pub(crate) mod describe;
pub(crate) mod explore;
pub(crate) mod merged;
pub(crate) mod narrowed;
pub(crate) mod partition;
pub(crate) mod set;
pub(crate) mod words;

//! Large policies, made the same way every time, and questions to ask of them.
//!
//! Each [`Shape`] is one way in which a policy grows; [`Shape::Realistic`] mixes them in the
//! proportions of a large organisation.

pub mod measure;
mod shapes;

pub use shapes::{Prepared, Question, Shape};

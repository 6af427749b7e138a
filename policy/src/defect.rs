//! What is wrong with a document: all of it at once, each with its place and a hint.

use std::collections::HashSet;
use std::fmt;

/// A place in a document, such as `spec.tiers[0].rules[2].to[0].domainNames[1]`.
///
/// The engine knows paths, never lines: the command turns a path into line and column, and Envoy's
/// log shows the path as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldPath(Vec<Segment>);

/// One step of a [`FieldPath`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// Into a field of a mapping.
    Field(String),
    /// Into an element of a list, counted from zero.
    Index(usize),
}

impl FieldPath {
    /// The steps from the document's root.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Reads what [`fmt::Display`] writes. A field whose name is a number or has a dot in it is read as
    /// something else, which is a place that no document has.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let steps = text.split(['.', '[', ']']).filter(|step| !step.is_empty());
        steps
            .map(|step| match step.parse() {
                Ok(index) => Segment::Index(index),
                Err(_) => Segment::Field(step.to_owned()),
            })
            .collect()
    }
}

impl FromIterator<Segment> for FieldPath {
    fn from_iter<I: IntoIterator<Item = Segment>>(segments: I) -> Self {
        Self(segments.into_iter().collect())
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Field(name) if i > 0 => write!(f, ".{name}")?,
                Segment::Field(name) => f.write_str(name)?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// What sort of defect: a stable word that tools can match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DefectKind {
    /// The text is not JSON or YAML.
    Syntax,
    /// A mapping, list, string, number or boolean of the wrong kind.
    WrongType,
    /// A field that does not exist.
    UnknownField,
    /// A field given twice.
    DuplicateField,
    /// A required field is absent.
    MissingField,
    /// A list, mapping or text that must not be empty.
    Empty,
    /// A name used twice where names are unique.
    DuplicateName,
    /// A text outside its grammar.
    BadValue,
    /// A destination or inspection proxy that nothing declares.
    UnknownReference,
    /// Fields that exclude or require each other.
    Conflict,
    /// A rule or condition that could never match.
    NeverMatches,
}

impl DefectKind {
    /// Every sort.
    pub const ALL: [Self; 11] = [
        Self::Syntax,
        Self::WrongType,
        Self::UnknownField,
        Self::DuplicateField,
        Self::MissingField,
        Self::Empty,
        Self::DuplicateName,
        Self::BadValue,
        Self::UnknownReference,
        Self::Conflict,
        Self::NeverMatches,
    ];

    /// The stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::WrongType => "wrong_type",
            Self::UnknownField => "unknown_field",
            Self::DuplicateField => "duplicate_field",
            Self::MissingField => "missing_field",
            Self::Empty => "empty",
            Self::DuplicateName => "duplicate_name",
            Self::BadValue => "bad_value",
            Self::UnknownReference => "unknown_reference",
            Self::Conflict => "conflict",
            Self::NeverMatches => "never_matches",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    /// What sort.
    pub kind: DefectKind,
    /// Where.
    pub path: FieldPath,
    /// What: lower case, no full stop, the author's own text in backticks.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind: _,
            path,
            message,
            hint,
        } = self;
        if !path.segments().is_empty() {
            write!(f, "{path}: ")?;
        }
        f.write_str(message)?;
        hint.iter().try_for_each(|hint| write!(f, " ({hint})"))
    }
}

/// The path to where decoding stands, as a list on the stack: a path costs an allocation only
/// when something is wrong there.
#[derive(Clone, Copy, Debug)]
pub struct At<'p> {
    parent: Option<&'p At<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'p> {
    Root,
    Field(&'p str),
    Index(usize),
}

impl<'p> At<'p> {
    /// The document's root.
    #[must_use]
    pub const fn root() -> At<'static> {
        At {
            parent: None,
            step: Step::Root,
        }
    }

    /// A field of the mapping here.
    #[must_use]
    pub const fn field(&'p self, name: &'p str) -> At<'p> {
        At {
            parent: Some(self),
            step: Step::Field(name),
        }
    }

    /// An element of the list here.
    #[must_use]
    pub const fn index(&'p self, index: usize) -> At<'p> {
        At {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    /// The path as a value.
    #[must_use]
    pub fn path(&self) -> FieldPath {
        let mut steps = Vec::new();
        let mut here = Some(self);
        while let Some(at) = here {
            match at.step {
                Step::Root => {}
                Step::Field(name) => steps.push(Segment::Field(name.to_owned())),
                Step::Index(index) => steps.push(Segment::Index(index)),
            }
            here = at.parent;
        }
        steps.reverse();
        FieldPath(steps)
    }
}

/// Everything found wrong so far.
#[derive(Clone, Debug, Default)]
pub struct Defects(Vec<Defect>);

impl Defects {
    /// Notes a defect.
    pub fn add(
        &mut self,
        kind: DefectKind,
        at: &At<'_>,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        self.0.push(Defect {
            kind,
            path: at.path(),
            message: message.into(),
            hint: hint.into(),
        });
    }

    /// The elements of the list here that something is wrong with.
    pub(crate) fn items(&self, at: &At<'_>) -> HashSet<usize> {
        if self.0.is_empty() {
            return HashSet::new();
        }
        let path = at.path();
        let below = self.0.iter();
        below
            .filter_map(|defect| {
                let rest = defect.path.segments().strip_prefix(path.segments())?;
                match rest.first()? {
                    Segment::Index(index) => Some(*index),
                    Segment::Field(_) => None,
                }
            })
            .collect()
    }

    /// Adds what another look found.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// True if nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many things are wrong.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The defects, in the order of the document.
    #[must_use]
    pub fn into_vec(self) -> Vec<Defect> {
        self.0
    }
}

/// Longest distance at which another word is offered as the one that was meant.
const SUGGESTION_DISTANCE: usize = 2;

/// The word that was probably meant, for a hint.
#[must_use]
pub fn suggestion<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<String> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= SUGGESTION_DISTANCE && *distance < candidate.len()
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| format!("did you mean `{candidate}`?"))
}

/// The words that are known, for a hint.
#[must_use]
pub fn one_of(known: &[&str]) -> String {
    format!(
        "one of {}",
        known
            .iter()
            .map(|k| format!("`{k}`"))
            .collect::<Vec<_>>()
            .join(", ")
    )
}

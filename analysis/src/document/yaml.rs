//! YAML 1.2 by `saphyr-parser`'s events: plain scalars by the core schema, anchors and aliases
//! within bounds, nothing else that YAML can do.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::{Builder, Id, MAX_DEPTH, MAX_NODES, SyntaxError, Value};

/// Most unquoted `*` that are reported in one run: each costs another reading of the text.
const MAX_STARS: usize = 20;

/// What usually is behind the scanner's words.
const SCAN_HINTS: &[(&str, &str)] = &[
    ("tab", "indent with spaces"),
    (
        "':'",
        "is a `[` or `{` before it left open, a quote missing, or the indentation another?",
    ),
    ("',' or", "is a `[` or `{` before it left open?"),
    ("quoted scalar", "the quote that opens here is never closed"),
    (
        "block",
        "lines of one list or mapping start in the same column",
    ),
];

pub(super) fn parse(text: &str) -> Result<Builder, Vec<SyntaxError>> {
    let mut stars: Vec<SyntaxError> = Vec::new();
    let mut patched = text.to_owned();
    loop {
        match read(&patched) {
            Ok(builder) if stars.is_empty() => return Ok(builder),
            Ok(_) => return Err(stars),
            Err(error) => {
                // What saphyr says of an alias that it cannot read or resolve.
                let of_alias = error.message.contains("anchor");
                let star = unquoted_star(&patched, error.span.start).filter(|_| of_alias);
                let Some(at) = star.filter(|_| stars.len() < MAX_STARS) else {
                    stars.push(error);
                    return Err(stars);
                };
                stars.push(star_error(text, at));
                // Read on as if it were a letter, to find the next one.
                patched.replace_range(at..=at, "x");
            }
        }
    }
}

fn star_error(text: &str, at: usize) -> SyntaxError {
    let rest = text.get(at..).unwrap_or_default();
    let length = rest
        .find(|c: char| c.is_whitespace() || matches!(c, ',' | ']' | '}' | '#'))
        .unwrap_or(rest.len());
    let word = rest.get(..length).unwrap_or_default();
    SyntaxError {
        span: at..at + length,
        message: "an unquoted `*` starts an alias in YAML".to_owned(),
        hint: Some(format!("quote it: \"{word}\"")),
    }
}

/// An unquoted `*` that starts a word on the line of `at`, at or before it.
fn unquoted_star(text: &str, at: usize) -> Option<usize> {
    let before = text.get(..at)?;
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text.get(line_start..)?.lines().next()?;
    let limit = at.saturating_sub(line_start).saturating_add(1);
    let mut quote: Option<char> = None;
    let mut previous = ' ';
    let mut found = None;
    for (i, c) in line.char_indices() {
        match (quote, c) {
            (Some(open), _) if open == c => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '#') if previous.is_whitespace() => break,
            (None, '*') if i <= limit && " \t[,:-{".contains(previous) => {
                found = Some(line_start + i);
            }
            (Some(_) | None, _) => {}
        }
        previous = c;
    }
    found
}

fn read(text: &str) -> Result<Builder, SyntaxError> {
    let reader = Reader {
        offsets: Offsets::of(text),
        builder: Builder::default(),
        open: Vec::new(),
        anchors: HashMap::new(),
        sizes: HashMap::new(),
        written_out: 0,
    };
    reader.run(Parser::new_from_str(text), text)
}

/// The last line before this place that holds more than a comment, if it holds no colon: where a key
/// was left unfinished, which the scanner notices at the next one.
fn line_before(text: &str, at: usize) -> Option<Range<usize>> {
    let mut end = text.get(..at)?.rfind('\n')?;
    loop {
        let start = text
            .get(..end)?
            .rfind('\n')
            .map_or(0, |newline| newline + 1);
        let line = text.get(start..end)?;
        let content = line.trim();
        if !content.is_empty() && !content.starts_with('#') {
            let from = start + (line.len() - line.trim_start().len());
            return (!content.contains(": ") && !content.ends_with(':'))
                .then(|| from..from + content.len());
        }
        end = start.checked_sub(1)?;
    }
}

/// Turns the parser's character counts into byte offsets.
struct Offsets {
    length: usize,
    /// The byte offset of each character; empty for ASCII, where the two are the same.
    of_char: Vec<u32>,
}

impl Offsets {
    fn of(text: &str) -> Self {
        let of_char = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices()
                .map(|(at, _)| u32::try_from(at).unwrap_or(u32::MAX))
                .collect()
        };
        Self {
            length: text.len(),
            of_char,
        }
    }

    fn byte(&self, marker: Marker) -> usize {
        if self.of_char.is_empty() {
            return marker.index().min(self.length);
        }
        self.of_char
            .get(marker.index())
            .and_then(|at| usize::try_from(*at).ok())
            .unwrap_or(self.length)
    }

    fn span(&self, span: Span) -> Range<usize> {
        let (start, end) = (self.byte(span.start), self.byte(span.end));
        start..end.max(start)
    }
}

/// A list or mapping that is being read.
struct Open {
    start: usize,
    anchor: usize,
    mapping: bool,
    key: Option<Id>,
    children: Vec<Id>,
    /// Nodes below it with aliases written out.
    size: u64,
}

struct Reader {
    offsets: Offsets,
    builder: Builder,
    open: Vec<Open>,
    anchors: HashMap<usize, Id>,
    /// How large an anchored node is with aliases written out.
    sizes: HashMap<Id, u64>,
    /// What all aliases together repeat.
    written_out: u64,
}

impl Reader {
    fn run(
        mut self,
        mut parser: Parser<'_, StrInput<'_>>,
        text: &str,
    ) -> Result<Builder, SyntaxError> {
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| self.scan_error(&error, text))?;
            self.event(event, self.offsets.span(span))?;
        }
        Ok(self.builder)
    }

    fn scan_error(&self, error: &ScanError, text: &str) -> SyntaxError {
        let at = self.offsets.byte(*error.marker());
        if error.info().contains("simple key expect")
            && let Some(line) = line_before(text, at)
        {
            let hint = "write `FIELD: VALUE`, with a space behind the colon".to_owned();
            return fault(line, "a field without a `:`", Some(hint));
        }
        let hint = SCAN_HINTS
            .iter()
            .find(|(words, _)| error.info().contains(words))
            .map(|(_, hint)| (*hint).to_owned());
        fault(at..at, error.info(), hint)
    }

    fn event(&mut self, event: Event<'_>, span: Range<usize>) -> Result<(), SyntaxError> {
        match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
            Event::Alias(anchor) => {
                let Some(id) = self.anchors.get(&anchor).copied() else {
                    return Err(fault(span, "this alias leads to no anchor before it", None));
                };
                let size = self.sizes.get(&id).copied().unwrap_or(1);
                self.written_out = self.written_out.saturating_add(size);
                self.child(id, size, &span)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref(), &span)?;
                let id = self.add(value, span.clone())?;
                self.anchor(anchor, id, 1);
                self.child(id, 1, &span)
            }
            Event::SequenceStart(anchor, tag) => self.enter(anchor, tag.as_deref(), false, &span),
            Event::MappingStart(anchor, tag) => self.enter(anchor, tag.as_deref(), true, &span),
            Event::SequenceEnd | Event::MappingEnd => self.leave(span),
        }
    }

    fn enter(
        &mut self,
        anchor: usize,
        tag: Option<&Tag>,
        mapping: bool,
        span: &Range<usize>,
    ) -> Result<(), SyntaxError> {
        if tag.is_some() {
            return Err(fault(span.clone(), "tags have no meaning here", None));
        }
        if self.open.len() >= MAX_DEPTH {
            let message = format!("nested deeper than {MAX_DEPTH} levels");
            return Err(fault(span.clone(), &message, None));
        }
        self.open.push(Open {
            start: span.start,
            anchor,
            mapping,
            key: None,
            children: Vec::new(),
            size: 1,
        });
        Ok(())
    }

    fn leave(&mut self, span: Range<usize>) -> Result<(), SyntaxError> {
        let Some(done) = self.open.pop() else {
            return Err(fault(span, "this ends nothing", None));
        };
        let value = if done.mapping {
            let (pairs, _) = done.children.as_chunks::<2>();
            Value::Map(pairs.iter().map(|[key, value]| (*key, *value)).collect())
        } else {
            Value::List(done.children.into())
        };
        let whole = done.start..span.end.max(done.start);
        let id = self.add(value, whole.clone())?;
        self.anchor(done.anchor, id, done.size);
        self.child(id, done.size, &whole)
    }

    fn add(&mut self, value: Value, span: Range<usize>) -> Result<Id, SyntaxError> {
        self.builder
            .add(value, span.clone())
            .ok_or_else(|| fault(span, "this document has too many parts", None))
    }

    fn anchor(&mut self, anchor: usize, id: Id, size: u64) {
        if anchor != 0 {
            self.anchors.insert(anchor, id);
            self.sizes.insert(id, size);
        }
    }

    /// Puts a finished node where it belongs.
    fn child(&mut self, id: Id, size: u64, span: &Range<usize>) -> Result<(), SyntaxError> {
        if self.written_out > MAX_NODES {
            let hint = "write out what the aliases repeat, or use named destinations".to_owned();
            return Err(fault(
                span.clone(),
                "aliases make this too large",
                Some(hint),
            ));
        }
        let Some(parent) = self.open.last_mut() else {
            self.builder.roots.push(id);
            return Ok(());
        };
        parent.size = parent.size.saturating_add(size);
        if parent.mapping {
            match parent.key.take() {
                None => {
                    let entry = usize::try_from(id)
                        .ok()
                        .and_then(|i| self.builder.entries.get(i));
                    if !matches!(entry.map(|e| &e.value), Some(v) if !matches!(v, Value::List(_) | Value::Map(_)))
                    {
                        let hint =
                            "keys are texts; `{{ ... }}` of a template has to be rendered first"
                                .to_owned();
                        let message = "a list or mapping cannot be a key";
                        return Err(fault(span.clone(), message, Some(hint)));
                    }
                    parent.key = Some(id);
                    return Ok(());
                }
                Some(key) => parent.children.push(key),
            }
        }
        parent.children.push(id);
        Ok(())
    }
}

fn fault(span: Range<usize>, message: &str, hint: Option<String>) -> SyntaxError {
    SyntaxError {
        span,
        message: message.to_owned(),
        hint,
    }
}

fn scalar(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
    span: &Range<usize>,
) -> Result<Value, SyntaxError> {
    match tag {
        None if style == ScalarStyle::Plain => Ok(plain(text)),
        None => Ok(Value::Text(text.into())),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => {
            Ok(Value::Text(text.into()))
        }
        Some(_) => {
            let hint = "leave the tag out; quote what is meant as a text".to_owned();
            Err(fault(span.clone(), "tags have no meaning here", Some(hint)))
        }
    }
}

/// The core schema of YAML 1.2.2, §10.3.2.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if is_number(text) => Value::Number(text.into()),
        _ => Value::Text(text.into()),
    }
}

fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if let Some(octal) = text.strip_prefix("0o") {
        return !octal.is_empty() && octal.bytes().all(|b| (b'0'..=b'7').contains(&b));
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        None => (unsigned, None),
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
    };
    let mantissa_fine = match mantissa.split_once('.') {
        None => digits(mantissa),
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
    };
    mantissa_fine && exponent.is_none_or(|e| digits(e.strip_prefix(['-', '+']).unwrap_or(e)))
}

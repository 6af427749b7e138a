//! A list's entries put into the policy's document, each with its place in the list.

use std::sync::Arc;

use crate::document::{self, Documents};

use super::text::Entries;
use super::{FIELDS, PLACES, Wanted};

/// Puts the entries where the list was named. `None` if the document becomes too large.
pub(super) fn write_out(
    documents: &mut Documents,
    wanted: Wanted,
    entries: &Entries,
) -> Option<()> {
    let policy = Arc::clone(documents.place(wanted.element).source());
    let element = documents.place(wanted.element);
    let whole = element.span();
    let mut rest: Vec<(u32, u32)> = Vec::new();
    let (mut key_span, mut value_span) = (whole.clone(), whole.clone());
    for (key, value) in element.fields() {
        if key.text() == Some("file") {
            (key_span, value_span) = (key.span(), value.span());
        }
        if !key.text().is_some_and(|key| FIELDS.contains(&key)) {
            rest.push((key.id(), value.id()));
        }
    }
    let siblings: Vec<u32> = documents
        .place(wanted.holder)
        .items()
        .map(document::Node::id)
        .collect();
    let names_it = |(key, _): &(document::Node<'_>, document::Node<'_>)| {
        key.text().is_some_and(|key| PLACES.contains(&key))
    };
    if documents
        .place(wanted.element)
        .fields()
        .any(|field| names_it(&field))
    {
        documents.set_map(wanted.element, rest);
        return Some(());
    }
    let mut elements = Vec::new();
    for (field, items) in entries.fields() {
        documents.append_source(&entries.source);
        let items: Option<Vec<u32>> = items
            .iter()
            .map(|entry| documents.add_text(&entry.text, entry.span.clone()))
            .collect();
        documents.append_source(&policy);
        let key = documents.add_text(field, key_span.clone())?;
        let list = documents.add_list(items?, value_span.clone())?;
        let mut pairs = vec![(key, list)];
        pairs.extend(&rest);
        elements.push(pairs);
    }
    let mut elements = elements.into_iter();
    let (Some(first), second) = (elements.next(), elements.next()) else {
        return Some(());
    };
    let Some(second) = second else {
        documents.set_map(wanted.element, first);
        return Some(());
    };
    let second = documents.add_map(second, whole.clone())?;
    if wanted.holder == wanted.element {
        let first = documents.add_map(first, whole)?;
        documents.set_list(wanted.holder, vec![first, second]);
    } else {
        documents.set_map(wanted.element, first);
        let both = |id: u32| {
            let second = (id == wanted.element).then_some(second);
            std::iter::once(id).chain(second)
        };
        documents.set_list(wanted.holder, siblings.into_iter().flat_map(both).collect());
    }
    Some(())
}

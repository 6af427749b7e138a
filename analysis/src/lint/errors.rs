//! The codes of errors, and what `--explain` says about them.

use super::CodeText;

/// The codes of errors, and what `--explain` says about them.
pub const ERRORS: [(&str, &str); 18] = [
    (
        "syntax",
        "The text is neither YAML 1.2 nor JSON, or does what a policy may not: tags, keys that are\nlists, aliases that lead nowhere or multiply, nesting without end.",
    ),
    (
        "wrong_type",
        "A mapping, a list, a text, a number or a boolean stands where another is expected.",
    ),
    (
        "unknown_field",
        "The field does not exist. Nothing is ignored: a misspelt condition would otherwise hold\nfor everything.",
    ),
    (
        "duplicate_field",
        "The field is given twice. One reader would take the first and another the last.",
    ),
    ("missing_field", "A field that is required is absent."),
    (
        "empty",
        "A list, mapping or text is empty. One reader would take it for everything and another\nfor nothing; leave the field out, or fill it in.",
    ),
    (
        "duplicate_name",
        "A name stands twice where names are unique: tiers of a policy, rules of a tier, policies\nof a gateway, entries of a list.",
    ),
    (
        "bad_value",
        "A text is outside its grammar: a name, a network, a port, a path, a time, a word.",
    ),
    (
        "unknown_reference",
        "Nothing declares the destination or the inspection proxy that is named here.",
    ),
    (
        "conflict",
        "Fields stand together that exclude each other, or one stands without another that it\nneeds.",
    ),
    (
        "never_matches",
        "A condition that no connection can fulfil, so that the rule would be there on paper only.",
    ),
    (
        "install",
        "The policies are not those that the install settings list, or one speaks for a namespace\nthat is not granted to it.",
    ),
    (
        "port_protocol",
        "A rule of a later policy says that a port carries HTTP or TLS which carries something else.\nSidecars and gateway tell ports apart for every workload at once, so the rule would change other\nteams' traffic, even as a Deny or in Shadow. The first policy says what ports carry, or\n`gateway.protocols` of the install settings.",
    ),
    (
        "fail_open",
        "A WasmPlugin or TrafficExtension with the module lets traffic pass, or waits without an end,\nwhere the module is missing or fails: `failStrategy` must be `FAIL_RELOAD` or `FAIL_CLOSE`.",
    ),
    (
        "list_changed",
        "A list in a file has another digest than the one that was reviewed with the policy.\nReview what changed in it, then write the new digest and date.",
    ),
    (
        "list_unreadable",
        "The file of a list cannot be read, or is not UTF-8. It lies in the policy's folder or\nbelow it.",
    ),
    (
        "too_many_classes",
        "The gateway keeps what a name must not lead to out of its DNS caches, with a cache for each\nset of addresses that is refused to somebody. `Deny` rules with `networks` for some callers,\nports, methods or paths, and `allowPrivate`, make more sets than one gateway can have. Deny\nthe networks for everybody, or bring rules that deny them together before those that accept.",
    ),
    (
        "foreign_file",
        "The file is empty, or it holds nothing that this command reads: no policy, or for\n`warden test` no decision cases.",
    ),
];

/// The codes of errors.
#[must_use]
pub fn error_codes() -> Vec<CodeText> {
    let codes = ERRORS.iter();
    let codes = codes.map(|(code, explanation)| CodeText {
        code,
        explanation,
        hint: None,
    });
    codes.collect()
}

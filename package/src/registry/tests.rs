//! A registry that the test writes: what it is asked, and what becomes of its answers.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;
use crate::image::{Variant, bill_of_materials, build};
use crate::sbom::Sbom;

/// A request: verb, path with query, `Authorization`, body.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    verb: String,
    path: String,
    authorization: String,
    body: Vec<u8>,
}

/// An answer as it goes over the wire.
type Answer = fn(&Asked, SocketAddr) -> Option<String>;

struct Fake {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

fn answered(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// A registry that takes everything and lists no referrers by itself.
fn taken(asked: &Asked, _own: SocketAddr) -> String {
    match asked.verb.as_str() {
        "POST" => answered(
            "202 Accepted",
            "Location: /v2/team/image/blobs/uploads/1\r\n",
            "",
        ),
        "PUT" => answered("201 Created", "", ""),
        _ => answered("404 Not Found", "", ""),
    }
}

impl Fake {
    /// Answers with `answer`, and where that has none, takes everything.
    fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || {
                    // A client that goes away is none of the test's business.
                    let _ = serve(stream, address, answer, &kept);
                });
            }
        });
        Self { address, asked }
    }

    fn push(&self, credentials: Option<Credentials>) -> Result<(), PushError> {
        let reference = format!("{}/team/image:1", self.address).parse().unwrap();
        let access = Access {
            credentials,
            plain_http: false,
            authorities: None,
        };
        let image = build(b"module", Variant::Oci, None).unwrap();
        let bill = bill_of_materials(&image, &Sbom::of(b"module").unwrap()).unwrap();
        Registry::new(reference, access)?.push(&image, &[bill], |_| ())
    }

    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn serve(
    stream: TcpStream,
    own: SocketAddr,
    answer: Answer,
    kept: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut words = first.split(' ');
    let (verb, path) = (
        words.next().unwrap().to_owned(),
        words.next().unwrap_or_default().to_owned(),
    );
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let asked = Asked {
        verb,
        path,
        authorization: headers.get("authorization").cloned().unwrap_or_default(),
        body,
    };
    let text = answer(&asked, own).unwrap_or_else(|| taken(&asked, own));
    kept.lock().unwrap().push(asked);
    let mut stream = stream;
    stream.write_all(text.as_bytes())
}

fn is_list(asked: &Asked) -> bool {
    asked.path.contains("/manifests/sha256-")
}

/// The list of what refers to an image may hold other people's signatures.
#[test]
fn a_list_of_referrers_is_added_to_and_never_lost() {
    let others = r#"{"schemaVersion":2,"manifests":[{"mediaType":"m","digest":"sha256:00","size":1,"annotations":{"a":"b"},"unknown":[1]}]}"#;
    let registry = Fake::start(|asked, _| {
        (asked.verb == "GET" && is_list(asked)).then(|| {
            answered("200 OK", "", r#"{"schemaVersion":2,"manifests":[{"mediaType":"m","digest":"sha256:00","size":1,"annotations":{"a":"b"},"unknown":[1]}]}"#)
        })
    });
    registry.push(None).unwrap();
    let asked = registry.asked();
    let written = asked
        .iter()
        .find(|asked| asked.verb == "PUT" && is_list(asked))
        .unwrap();
    let written: Value = serde_json::from_slice(&written.body).unwrap();
    let before: Value = serde_json::from_str(others).unwrap();
    assert_eq!(written["manifests"].as_array().unwrap().len(), 2);
    assert!(
        written["manifests"]
            .as_array()
            .unwrap()
            .contains(&before["manifests"][0]),
        "{written}"
    );

    let unreadable: [(Answer, &str); 4] = [
        (
            |asked, _| (asked.verb == "GET" && is_list(asked)).then(|| answered("200 OK", "", "")),
            "EOF",
        ),
        (
            |asked, _| {
                (asked.verb == "GET" && is_list(asked)).then(|| answered("200 OK", "", "<html>"))
            },
            "expected value",
        ),
        (
            |asked, _| {
                (asked.verb == "GET" && is_list(asked)).then(|| answered("200 OK", "", "{}"))
            },
            "an index without `manifests`",
        ),
        // Cut off.
        (
            |asked, _| {
                (asked.verb == "GET" && is_list(asked))
                    .then(|| "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n{\"manifests\":[]}".to_owned())
            },
            "the answer cannot be read",
        ),
    ];
    for (answer, expected) in unreadable {
        let registry = Fake::start(answer);
        let error = registry.push(None).unwrap_err().to_string();
        assert!(
            error.contains("the answer cannot be read") && error.contains(expected),
            "{error}"
        );
        let asked = registry.asked();
        assert!(
            !asked
                .iter()
                .any(|asked| asked.verb == "PUT" && is_list(asked)),
            "it is written over: {expected}"
        );
    }
}

#[test]
fn an_error_whose_text_is_cut_off_is_still_that_error() {
    let registry = Fake::start(|asked, _| {
        (asked.verb == "POST").then(|| {
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n{"
                .to_owned()
        })
    });
    let error = registry.push(None).unwrap_err().to_string();
    assert!(
        error.contains("403 Forbidden") && error.contains("cannot be read"),
        "{error}"
    );
}

/// Each of these was an empty text once.
#[test]
fn a_header_that_is_missing_or_no_text_is_an_error() {
    let cases: [(Answer, &str); 4] = [
        (
            |asked, _| (asked.verb == "POST").then(|| answered("202 Accepted", "", "")),
            "no place to upload to: its answer has no `Location`",
        ),
        (
            |asked, _| {
                (asked.verb == "POST")
                    .then(|| answered("202 Accepted", "Location: /\u{e9}\r\n", ""))
            },
            "`Location`: the answer cannot be read",
        ),
        (
            |asked, _| {
                (asked.verb == "POST").then(|| answered("202 Accepted", "Location: \r\n", ""))
            },
            "no usable place to upload to: ``",
        ),
        (
            |asked, _| {
                (asked.verb == "PUT" && asked.path.contains("/manifests/")).then(|| {
                    answered(
                        "201 Created",
                        "Docker-Content-Digest: sha256:\u{e9}\r\n",
                        "",
                    )
                })
            },
            "`Docker-Content-Digest`: the answer cannot be read",
        ),
    ];
    for (answer, expected) in cases {
        let error = Fake::start(answer).push(None).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// A registry that lists referrers by itself says so.
#[test]
fn no_list_is_kept_where_the_registry_keeps_one() {
    let registry = Fake::start(|asked, _| {
        (asked.verb == "PUT" && asked.path.contains("/manifests/"))
            .then(|| answered("201 Created", "OCI-Subject: sha256:00\r\n", ""))
    });
    registry.push(None).unwrap();
    assert!(!registry.asked().iter().any(is_list));
}

/// Wants a token of its own token service.
fn guarded(asked: &Asked, own: SocketAddr) -> Option<String> {
    if asked.path.starts_with("/token") {
        return Some(answered("200 OK", "", r#"{"access_token":"granted"}"#));
    }
    (asked.authorization != "Bearer granted").then(|| {
        let challenge =
            format!("WWW-Authenticate: Bearer realm=\"http://{own}/token\",service=\"fake\"\r\n");
        answered("401 Unauthorized", &challenge, "")
    })
}

/// As Azure's helper hands out (`oci-client` 0.18 knows no such token).
#[test]
fn an_identity_token_is_exchanged() {
    let registry = Fake::start(guarded);
    registry
        .push(Some(Credentials::Identity("refresh&me".to_owned())))
        .unwrap();
    let asked = registry.asked();
    let exchanged = asked.iter().find(|asked| asked.path == "/token").unwrap();
    assert_eq!(exchanged.verb, "POST");
    assert_eq!(
        String::from_utf8_lossy(&exchanged.body),
        "grant_type=refresh_token&service=fake&scope=repository%3Ateam%2Fimage%3Apull%2Cpush&client_id=warden&refresh_token=refresh%26me"
    );
    assert!(asked.last().unwrap().authorization == "Bearer granted");

    // A registry need not name its service.
    let nameless = Fake::start(|asked, own| {
        let answer = guarded(asked, own)?;
        Some(answer.replace(",service=\"fake\"", ""))
    });
    nameless.push(None).unwrap();
    assert!(
        nameless
            .asked()
            .iter()
            .any(|asked| asked.path == "/token?scope=repository%3Ateam%2Fimage%3Apull%2Cpush")
    );

    let basic = Credentials::Basic {
        user: "u".to_owned(),
        password: "p".to_owned(),
    };
    registry.push(Some(basic)).unwrap();
    let asked = registry.asked();
    let asked = asked
        .iter()
        .find(|asked| asked.path.starts_with("/token"))
        .unwrap();
    assert_eq!(
        (asked.verb.as_str(), asked.authorization.as_str()),
        ("GET", "Basic dTpw")
    );

    let answers: [(Answer, &str); 3] = [
        (
            |asked, own| {
                if asked.path.starts_with("/token") {
                    Some(answered("200 OK", "", "{}"))
                } else {
                    guarded(asked, own)
                }
            },
            "no token",
        ),
        (
            |asked, own| {
                if asked.path.starts_with("/token") {
                    Some(answered("200 OK", "", ""))
                } else {
                    guarded(asked, own)
                }
            },
            "EOF",
        ),
        (
            |asked, own| {
                if asked.path.starts_with("/token") {
                    Some(answered("403 Forbidden", "", ""))
                } else {
                    guarded(asked, own)
                }
            },
            "answers 403 Forbidden",
        ),
    ];
    for (answer, expected) in answers {
        let registry = Fake::start(answer);
        let error = registry.push(None).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// A registry chooses where uploads go: what shows who we are is not for that place
/// (CVE-2020-15157).
#[test]
fn an_upload_elsewhere_gets_no_token() {
    static ELSEWHERE: Mutex<Option<SocketAddr>> = Mutex::new(None);
    let elsewhere = Fake::start(|_, _| Some(answered("201 Created", "", "")));
    *ELSEWHERE.lock().unwrap() = Some(elsewhere.address);
    let registry = Fake::start(|asked, own| {
        if asked.verb == "POST"
            && asked.authorization == "Bearer granted"
            && !asked.path.starts_with("/token")
        {
            let location = ELSEWHERE.lock().unwrap().unwrap();
            return Some(answered(
                "202 Accepted",
                &format!("Location: http://{location}/upload?state=1\r\n"),
                "",
            ));
        }
        guarded(asked, own)
    });
    registry
        .push(Some(Credentials::Identity("refresh".to_owned())))
        .unwrap();
    let uploads = elsewhere.asked();
    assert!(!uploads.is_empty());
    for upload in uploads {
        assert_eq!(
            (upload.verb.as_str(), upload.authorization.as_str()),
            ("PUT", ""),
            "{}",
            upload.path
        );
        assert!(
            upload.path.starts_with("/upload?state=1&digest=sha256:"),
            "{}",
            upload.path
        );
    }
}

/// A registry chooses the token service too (`oci-client` 0.18 asks any).
#[test]
fn a_token_service_in_the_clear_is_told_nothing() {
    let access = Access {
        credentials: Some(Credentials::Identity("refresh".to_owned())),
        ..Access::default()
    };
    let registry = Registry::new("r.example/image:1".parse().unwrap(), access).unwrap();
    let asked = Fake::start(guarded);
    let challenge = Challenge::Bearer {
        realm: format!("http://{}/token", asked.address),
        service: Some("fake".to_owned()),
    };
    let error = registry.authorize(&[challenge]).unwrap_err().to_string();
    assert!(error.contains("is not reached over TLS"), "{error}");
    assert_eq!(asked.asked(), []);
}

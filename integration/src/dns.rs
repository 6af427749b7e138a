//! A DNS server that is as unkind as the world's may be, and writes down every question: several
//! addresses of both families, in any order, other ones with each question, lifetimes of nothing,
//! chains of aliases, failures and silence.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

const HEADER: usize = 12;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
const TYPE_A: u8 = 1;
const TYPE_CNAME: u8 = 5;
const TYPE_AAAA: u8 = 28;
/// Seconds that an answer lives if nothing else is said.
const LIFETIME: u32 = 60;
/// A random answer has at most as many addresses.
const MOST: u64 = 4;

/// What the server says of a name.
#[derive(Clone, Debug)]
pub enum Name {
    /// One answer after the other, the last for ever. Questions of each family count by themselves.
    InTurn(Vec<Answer>),
    /// One of these answers after the other, and again from the first.
    Alternating(Vec<Answer>),
    /// With each question some of these addresses, in random order, for 0 or 1 seconds.
    Random(Vec<IpAddr>),
}

/// What is said to one question.
#[derive(Clone, Debug)]
pub enum Answer {
    /// These addresses, as far as they are of the family that was asked for, behind aliases.
    Addresses {
        /// The chain of aliases (CNAME) on the way there.
        aliases: Vec<String>,
        /// The addresses, in this order.
        addresses: Vec<IpAddr>,
        /// Seconds that it lives.
        lifetime: u32,
    },
    /// SERVFAIL.
    Failure,
    /// No answer at all.
    Silence,
}

impl Answer {
    /// These addresses, in this order.
    #[must_use]
    pub fn of(addresses: &[IpAddr]) -> Self {
        Self::Addresses {
            aliases: Vec::new(),
            addresses: addresses.to_vec(),
            lifetime: LIFETIME,
        }
    }

    /// The same for so many seconds.
    #[must_use]
    pub fn living(mut self, seconds: u32) -> Self {
        if let Self::Addresses { lifetime, .. } = &mut self {
            *lifetime = seconds;
        }
        self
    }

    /// The same behind these aliases.
    #[must_use]
    pub fn behind(mut self, names: &[&str]) -> Self {
        if let Self::Addresses { aliases, .. } = &mut self {
            *aliases = names.iter().map(|name| (*name).to_owned()).collect();
        }
        self
    }
}

impl From<IpAddr> for Name {
    fn from(address: IpAddr) -> Self {
        Self::from(Answer::of(&[address]))
    }
}

impl From<Answer> for Name {
    fn from(answer: Answer) -> Self {
        Self::InTurn(vec![answer])
    }
}

/// The server; it runs until the process ends.
#[derive(Clone)]
pub struct Dns {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    names: BTreeMap<String, Name>,
    asked: Vec<String>,
    /// How often a name was asked for, by family.
    counts: BTreeMap<(String, u8), usize>,
    chance: Chance,
}

impl Dns {
    /// Answers for these names, in lower case, on port 53 of `address`.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn start<N: Into<Name>>(
        address: Ipv4Addr,
        names: impl IntoIterator<Item = (String, N)>,
    ) -> Result<Self> {
        let socket = UdpSocket::bind((address, 53))?;
        let server = Self {
            state: Arc::default(),
        };
        server.set(names);
        let state = Arc::clone(&server.state);
        std::thread::spawn(move || {
            let mut packet = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut packet) {
                if let Some(packet) = packet.get(..length) {
                    answer(&state, &socket, packet, peer);
                }
            }
        });
        Ok(server)
    }

    /// Knows these names from now on, and no others.
    pub fn set<N: Into<Name>>(&self, names: impl IntoIterator<Item = (String, N)>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.names = names
            .into_iter()
            .map(|(name, says)| (name, says.into()))
            .collect();
        state.counts.clear();
    }

    /// Knows this name from now on, beside the others.
    pub fn add(&self, name: &str, says: impl Into<Name>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.counts.retain(|(known, _), _| known != name);
        state.names.insert(name.to_owned(), says.into());
    }

    /// How often a name was asked for, by the family that was asked for most.
    #[must_use]
    pub fn times(&self, name: &str) -> usize {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = state.counts.iter().filter(|((known, _), _)| known == name);
        counts.map(|(_, count)| *count).max().unwrap_or(0)
    }

    /// Every name asked for so far, in order; both families' questions in a row count once.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut asked = state.asked.clone();
        asked.dedup();
        asked
    }
}

fn answer(state: &Mutex<State>, socket: &UdpSocket, packet: &[u8], peer: SocketAddr) {
    let Some((name, question)) = question(packet) else {
        return;
    };
    let kind = match question {
        [.., 0, kind, 0, 1] => *kind,
        _ => 0,
    };
    let said = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked.push(name.clone());
        state.say(&name, kind)
    };
    if let Some(reply) = reply(question, kind, said.as_ref()) {
        let id = packet.get(..2).unwrap_or_default();
        // A client that has gone is no concern of the server's.
        let _ = socket.send_to(&[id, &reply].concat(), peer);
    }
}

impl State {
    fn say(&mut self, name: &str, kind: u8) -> Option<Answer> {
        let known = self.names.get(name)?;
        let count = self.counts.entry((name.to_owned(), kind)).or_default();
        let index = *count;
        *count += 1;
        Some(match known {
            Name::InTurn(answers) => answers.get(index).or(answers.last())?.clone(),
            Name::Alternating(answers) => answers.get(index % answers.len().max(1))?.clone(),
            Name::Random(addresses) => {
                let mut pool = addresses.clone();
                self.chance.shuffle(&mut pool);
                let many = 1 + self.chance.below(MOST);
                pool.truncate(usize::try_from(many).unwrap_or(1));
                let lifetime = u32::from(self.chance.below(2) == 1);
                Answer::of(&pool).living(lifetime)
            }
        })
    }
}

/// Numbers without an order anybody could rely on (`SplitMix64`): the same in every run.
#[derive(Default)]
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let bound = u64::try_from(last).unwrap_or(0) + 1;
            let other = usize::try_from(self.below(bound)).unwrap_or(0);
            items.swap(last, other);
        }
    }
}

/// Asks a server for a name's IPv4 address, as a resolver does; `None` if it says that there is
/// none, or nothing.
///
/// # Errors
/// If the question cannot be sent.
pub fn ask(server: Ipv4Addr, name: &str) -> Result<Option<Ipv4Addr>> {
    const TRIES: usize = 3;
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len())?);
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, TYPE_A, 0, 1]);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(std::time::Duration::from_secs(2)))?;
    socket.connect((server, 53))?;
    let mut packet = [0; 1500];
    for _ in 0..TRIES {
        socket.send(&question)?;
        let Ok(length) = socket.recv(&mut packet) else {
            continue;
        };
        let answer = packet.get(..length).unwrap_or_default();
        if answer.get(6..8) == Some(&[0, 0]) {
            return Ok(None);
        }
        // Behind the question: a name, of which a pointer is two bytes, then ten bytes.
        let rest = answer.get(question.len()..).unwrap_or_default();
        let skip = match rest.first() {
            Some(first) if *first >= 0xC0 => 2,
            _ => rest
                .iter()
                .position(|byte| *byte == 0)
                .map_or(0, |at| at + 1),
        };
        let octets = rest
            .get(skip + 10..skip + 14)
            .and_then(|four| <[u8; 4]>::try_from(four).ok());
        return Ok(octets.map(Ipv4Addr::from));
    }
    Ok(None)
}

/// The first question's name, in lower case, and its bytes (RFC 1035 §4.1.2).
fn question(packet: &[u8]) -> Option<(String, &[u8])> {
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*packet.get(at)?);
        if length == 0 {
            break;
        }
        let label = packet.get(at + 1..at + 1 + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += 1 + length;
    }
    Some((labels.join("."), packet.get(HEADER..at + 5)?))
}

/// Everything behind the transaction id; `None` is silence. A name without an address of the family
/// asked for is answered without one.
fn reply(question: &[u8], kind: u8, said: Option<&Answer>) -> Option<Vec<u8>> {
    let (code, records) = match said {
        None => (NXDOMAIN, Vec::new()),
        Some(Answer::Failure) => (SERVFAIL, Vec::new()),
        Some(Answer::Silence) => return None,
        Some(Answer::Addresses {
            aliases,
            addresses,
            lifetime,
        }) => (0, records(kind, aliases, addresses, *lifetime)),
    };
    let count = u8::try_from(records.len()).unwrap_or(u8::MAX);
    let mut bytes = vec![0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
    bytes.extend_from_slice(question);
    bytes.extend(records.concat());
    Some(bytes)
}

fn records(kind: u8, aliases: &[String], addresses: &[IpAddr], lifetime: u32) -> Vec<Vec<u8>> {
    // A pointer to the question's name.
    let mut owner = vec![0xC0, 0x0C];
    let mut records = Vec::new();
    for alias in aliases {
        let target = written(alias);
        records.push(record(&owner, TYPE_CNAME, lifetime, &target));
        owner = target;
    }
    for address in addresses {
        match address {
            IpAddr::V4(v4) if kind == TYPE_A => {
                records.push(record(&owner, kind, lifetime, &v4.octets()));
            }
            IpAddr::V6(v6) if kind == TYPE_AAAA => {
                records.push(record(&owner, kind, lifetime, &v6.octets()));
            }
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
    }
    records
}

fn record(owner: &[u8], kind: u8, lifetime: u32, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap_or(0).to_be_bytes();
    [
        owner,
        &[0, kind, 0, 1],
        &lifetime.to_be_bytes(),
        &length,
        data,
    ]
    .concat()
}

/// A name as it stands in a packet.
fn written(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &[u8] = b"\x01a\x01x\x00\x00\x01\x00\x01";

    fn addresses(state: &mut State, kind: u8) -> Vec<IpAddr> {
        match state.say("a.x", kind) {
            Some(Answer::Addresses { addresses, .. }) => addresses,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn answers_come_in_turn_for_each_family() {
        let (one, two): (IpAddr, IpAddr) = ([203, 0, 113, 1].into(), [10, 0, 0, 1].into());
        let says = vec![Answer::of(&[one]), Answer::of(&[two])];
        for (name, third) in [
            (Name::InTurn(says.clone()), two),
            (Name::Alternating(says), one),
        ] {
            let mut state = State::default();
            state.names.insert("a.x".to_owned(), name);
            assert_eq!(addresses(&mut state, TYPE_A), [one]);
            assert_eq!(addresses(&mut state, TYPE_A), [two]);
            assert_eq!(addresses(&mut state, TYPE_AAAA), [one]);
            assert_eq!(addresses(&mut state, TYPE_A), [third]);
            assert!(state.say("b.x", TYPE_A).is_none());
        }
    }

    #[test]
    fn random_answers_differ_in_number_and_order() {
        let pool: Vec<IpAddr> = (1..8).map(|last| [203, 0, 113, last].into()).collect();
        let mut state = State::default();
        state
            .names
            .insert("a.x".to_owned(), Name::Random(pool.clone()));
        let seen: std::collections::BTreeSet<_> =
            (0..50).map(|_| addresses(&mut state, TYPE_A)).collect();
        assert!(seen.len() > 20, "{seen:?}");
        let longest = usize::try_from(MOST).unwrap();
        assert!(
            seen.iter()
                .all(|answer| (1..=longest).contains(&answer.len()))
        );
    }

    #[test]
    fn a_reply_has_the_family_s_addresses_behind_the_aliases() {
        let v4: IpAddr = [203, 0, 113, 1].into();
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        let answer = Answer::of(&[v4, v6]).behind(&["b.x", "c.x"]).living(1);
        let expected: [&[u8]; 4] = [
            b"\x81\x80\x00\x01\x00\x03\x00\x00\x00\x00\x01a\x01x\x00\x00\x01\x00\x01",
            b"\xC0\x0C\x00\x05\x00\x01\x00\x00\x00\x01\x00\x05\x01b\x01x\x00",
            b"\x01b\x01x\x00\x00\x05\x00\x01\x00\x00\x00\x01\x00\x05\x01c\x01x\x00",
            b"\x01c\x01x\x00\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\xCB\x00\x71\x01",
        ];
        assert_eq!(
            reply(QUESTION, TYPE_A, Some(&answer)).unwrap(),
            expected.concat()
        );
        let flags = |said: Option<&Answer>| reply(QUESTION, TYPE_A, said).map(|bytes| bytes[1]);
        assert_eq!(flags(None), Some(0x83));
        assert_eq!(flags(Some(&Answer::Failure)), Some(0x82));
        assert_eq!(flags(Some(&Answer::Silence)), None);
    }
}

//! An inspection proxy: takes CONNECT over HTTP/1.1, writes down what it is told and what passes,
//! and connects on.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::hosts::address_of;

/// One tunnel that the inspection proxy was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunnel {
    /// CONNECT's authority.
    pub destination: String,
    /// `x-egress-warden-rule`.
    pub rule: Option<String>,
    /// `x-egress-warden-workload`.
    pub workload: Option<String>,
    /// `x-egress-warden-address`, which requests have inside the tunnel.
    pub address: Option<String>,
    /// Every header's name, in lower case.
    pub headers: Vec<String>,
    /// Bytes of the client that have passed.
    pub bytes: Vec<u8>,
}

type Record = Arc<Mutex<Vec<Tunnel>>>;
type Open = Arc<Mutex<Vec<TcpStream>>>;

/// The running inspection proxy.
pub struct InspectionProxy {
    address: SocketAddrV4,
    record: Record,
    open: Open,
    ended: Arc<AtomicBool>,
}

impl InspectionProxy {
    /// Starts it.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn start(address: Ipv4Addr, port: u16) -> Result<Self> {
        let address = SocketAddrV4::new(address, port);
        let listener = TcpListener::bind(address)?;
        let record = Record::default();
        let ended = Arc::new(AtomicBool::new(false));
        let open = Open::default();
        let (seen, end, clients) = (Arc::clone(&record), Arc::clone(&ended), Arc::clone(&open));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let seen = Arc::clone(&seen);
                if let Ok(client) = stream.try_clone() {
                    let mut clients = clients.lock().unwrap_or_else(PoisonError::into_inner);
                    clients.push(client);
                }
                // Either side's hanging up is no error here.
                std::thread::spawn(move || tunnel(stream, &seen).ok());
            }
        });
        Ok(Self {
            address,
            record,
            open,
            ended,
        })
    }

    /// Every tunnel so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Tunnel> {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.clone()
    }

    /// Ends every tunnel and takes no connection any more.
    ///
    /// # Errors
    /// If it still does.
    pub fn stop(&self) -> Result<()> {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the thread, which then lets go of the port.
        drop(TcpStream::connect(self.address));
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for client in &*open {
            // It may have gone already.
            let _ = client.shutdown(Shutdown::Both);
        }
        drop(open);
        crate::envoy::eventually("the inspection proxy to be down", || {
            TcpStream::connect(self.address).is_err()
        })
    }
}

fn tunnel(mut client: TcpStream, record: &Record) -> Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let asked = ask(&mut reader)?;
    let onward = leads_to(&asked.destination);
    let index = {
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        record.push(asked);
        record.len() - 1
    };
    let Ok(server) = onward.and_then(|onward| Ok(TcpStream::connect(onward)?)) else {
        return Ok(client.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")?);
    };
    client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    let (mut from_server, mut to_client) = (server.try_clone()?, client);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let mut to_server = server;
    let mut buffer = [0; 4096];
    loop {
        let length = reader.read(&mut buffer)?;
        let bytes = buffer.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            to_server.shutdown(Shutdown::Both)?;
            return Ok(());
        }
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tunnel) = record.get_mut(index) {
            tunnel.bytes.extend_from_slice(bytes);
        }
        drop(record);
        to_server.write_all(bytes)?;
    }
}

/// Where that leads for the inspection proxy: a name by what it knows of the outside world.
fn leads_to(destination: &str) -> Result<SocketAddrV4> {
    let (host, port) = destination.rsplit_once(':').context("no port")?;
    let address = host.parse().or_else(|_| address_of(host))?;
    Ok(SocketAddrV4::new(address, port.parse()?))
}

/// Reads the request.
fn ask(reader: &mut impl BufRead) -> Result<Tunnel> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    ensure!(words.next() == Some("CONNECT"), "not CONNECT: {line}");
    let mut asked = Tunnel {
        destination: words.next().context("no authority")?.to_owned(),
        ..Tunnel::default()
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        let (name, value) = (name.to_lowercase(), value.trim().to_owned());
        match name.as_str() {
            "x-egress-warden-rule" => asked.rule = Some(value),
            "x-egress-warden-workload" => asked.workload = Some(value),
            "x-egress-warden-address" => asked.address = Some(value),
            _ => {}
        }
        asked.headers.push(name);
    }
    Ok(asked)
}

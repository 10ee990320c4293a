//! A connection to a broker that fails at a chosen moment.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

/// Passes on what a client and its broker say to each other. After a packet of the client with certain bytes, nothing
/// more of that connection reaches the broker. Later connections are left alone.
pub struct Proxy {
    port: u16,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    pub fn start(broker_port: u16, last_bytes: &'static [u8]) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let streams = Arc::<Mutex<Vec<TcpStream>>>::default();
        let (all, armed) = (Arc::clone(&streams), Arc::new(AtomicBool::new(true)));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(broker) = TcpStream::connect((Ipv4Addr::LOCALHOST, broker_port)) else { return };
                let clone = |stream: &TcpStream| stream.try_clone().unwrap();
                all.lock().unwrap().extend([clone(&client), clone(&broker)]);
                let (mut from_broker, mut to_client) = (clone(&broker), clone(&client));
                thread::spawn(move || std::io::copy(&mut from_broker, &mut to_client));
                let armed = Arc::clone(&armed);
                thread::spawn(move || pass_on(client, broker, last_bytes, &armed));
            }
        });
        Proxy { port, streams }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends every connection.
    pub fn cut(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn pass_on(mut client: TcpStream, mut broker: TcpStream, last_bytes: &[u8], armed: &AtomicBool) {
    let (mut chunk, mut is_over) = (vec![0; 64 << 10], false);
    while let Ok(n @ 1..) = client.read(&mut chunk) {
        if !is_over && broker.write_all(&chunk[..n]).is_err() {
            return;
        }
        let has_last = chunk[..n].windows(last_bytes.len()).any(|bytes| bytes == last_bytes);
        is_over |= has_last && armed.swap(false, SeqCst);
    }
    drop(broker.shutdown(Shutdown::Both));
}

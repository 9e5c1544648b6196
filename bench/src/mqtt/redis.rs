//! Redis' own publish and subscribe, as a mark to look at.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::Result;

use super::client::Opening;

/// Connects, and subscribes to the channel that the opening's filter names.
///
/// # Errors
/// The server refused it.
pub fn open(address: SocketAddr, opening: &Opening) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    for channel in &opening.filters {
        stream.write_all(&command(&["SUBSCRIBE", channel]))?;
        let answer = format!(
            "*3\r\n$9\r\nsubscribe\r\n${}\r\n{channel}\r\n:1\r\n",
            channel.len()
        );
        stream.read_exact(&mut vec![0; answer.len()])?;
    }
    Ok(stream)
}

/// PUBLISH, and how long a delivery of it is.
pub fn publish(channel: &str, payload: &str) -> (Vec<u8>, u64) {
    let delivery = command(&["message", channel, payload]);
    (
        command(&["PUBLISH", channel, payload]),
        delivery.len() as u64,
    )
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len());
    for word in words {
        bytes += &format!("${}\r\n{word}\r\n", word.len());
    }
    bytes.into_bytes()
}

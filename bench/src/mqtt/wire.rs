//! As much of MQTT 3.1.1 as a load generator needs: packets are made once, and what comes is skipped through.

/// CONNECT. Whose session is not clean is kept by the server.
pub fn connect(client_id: &str, clean: bool) -> Vec<u8> {
    const KEEP_ALIVE_S: u16 = 600;
    let mut body = b"\0\x04MQTT\x04".to_vec();
    body.push(if clean { 2 } else { 0 });
    body.extend(KEEP_ALIVE_S.to_be_bytes());
    text(&mut body, client_id);
    packet(0x10, &body)
}

/// SUBSCRIBE to some filters, all at one QoS.
pub fn subscribe(filters: &[String], qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    for filter in filters {
        text(&mut body, filter);
        body.push(qos);
    }
    packet(0x82, &body)
}

/// A PUBLISH, and where in it the packet id is to be written.
#[derive(Debug, Clone)]
pub struct Publish {
    pub bytes: Vec<u8>,
    pub packet_id: Option<usize>,
    /// Where the payload begins.
    pub payload: usize,
}

impl Publish {
    pub fn new(topic: &str, payload: &[u8], qos: u8, retain: bool) -> Self {
        let mut body = Vec::new();
        text(&mut body, topic);
        let id = body.len();
        if qos > 0 {
            body.extend([0, 0]);
        }
        let inside = body.len();
        body.extend(payload);
        let bytes = packet(0x30 | qos << 1 | u8::from(retain), &body);
        let head = bytes.len() - body.len();
        Self {
            bytes,
            packet_id: (qos > 0).then_some(head + id),
            payload: head + inside,
        }
    }

    /// Appends it with this packet id, if it has one.
    pub fn append(&self, packet_id: u16, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        if let Some(at) = self.packet_id {
            out[start + at..start + at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
    }
}

/// A packet of four bytes that names a packet id: an acknowledgement.
pub fn acknowledge(first: u8, packet_id: [u8; 2], out: &mut Vec<u8>) {
    out.extend_from_slice(&[first, 2, packet_id[0], packet_id[1]]);
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let low = (length % 128) as u8;
        length /= 128;
        packet.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

/// The first packet of what has come: its first byte, where its body begins and where it ends.
pub fn first(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (mut length, mut at) = (0, 1);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if at > 4 {
            return None;
        }
    }
    let end = at + length;
    (end <= bytes.len()).then(|| (bytes[0], at, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_can_be_skipped_through() {
        for size in [0, 1, 100, 127, 128, 1024, 20_000] {
            let publish = Publish::new("a/b", &vec![7; size], 1, true);
            let (first, body, end) = first(&publish.bytes).unwrap();
            assert_eq!((first, end), (0x33, publish.bytes.len()));
            assert_eq!(publish.packet_id, Some(body + 5));
            assert_eq!(publish.payload, body + 7);
            assert_eq!(end - publish.payload, size);
        }
    }
}

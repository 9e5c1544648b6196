//! Makes new inputs out of seeds.

/// Numbers where parsers go wrong, as bytes.
const NUMBERS: &[&[u8]] = &[
    &[0],
    &[0x7f],
    &[0x80],
    &[0xff],
    &[0xff, 0xff],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
    &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x80, 0, 0, 0, 0, 0, 0, 0],
    &[0xff; 8],
    b"0",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"9223372036854775808",
    &[0xc3],
    &[0xed, 0xa0, 0x80],
    &[0xf4, 0x90, 0x80, 0x80],
];

pub struct Mutator {
    state: u64,
    words: &'static [&'static [u8]],
}

impl Mutator {
    pub fn new(seed: u64, words: &'static [&'static [u8]]) -> Self {
        Self {
            state: seed | 1,
            words,
        }
    }

    /// A seed with a few changes, of `bytes_max` bytes at most.
    pub fn next(&mut self, seeds: &[Vec<u8>], bytes_max: usize) -> Vec<u8> {
        let mut input = seeds
            .get(self.below(seeds.len()))
            .cloned()
            .unwrap_or_default();
        let other = seeds
            .get(self.below(seeds.len()))
            .cloned()
            .unwrap_or_default();
        for _ in 0..=self.below(6) {
            self.change(&mut input, &other);
        }
        input.truncate(bytes_max);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(input.len() + 1);
        match self.below(10) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.random() as u8,
            2 => input.insert(at, self.random() as u8),
            3 => input.truncate(at),
            4 => {
                let end = at + self.below(input.len() - at + 1);
                drop(input.drain(at..end));
            }
            5 => insert(input, at, NUMBERS[self.below(NUMBERS.len())]),
            6 if !self.words.is_empty() => {
                insert(input, at, self.words[self.below(self.words.len())])
            }
            7 => {
                let from = self.below(other.len() + 1);
                let to = from + self.below(other.len() - from + 1);
                insert(input, at, &other[from..to]);
            }
            8 => {
                // The same again and again: depth, and long runs.
                let end = (at + 1 + self.below(8)).min(input.len());
                let piece = input[at.min(end)..end].to_vec();
                let times = 1 << self.below(10);
                insert(input, at, &piece.repeat(times));
            }
            _ => {
                input.truncate(at);
                input.extend_from_slice(&other[self.below(other.len() + 1)..]);
            }
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        if bound == 0 {
            0
        } else {
            (self.random() % bound as u64) as usize
        }
    }

    /// xorshift64*
    fn random(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    drop(input.splice(at..at, piece.iter().copied()));
}

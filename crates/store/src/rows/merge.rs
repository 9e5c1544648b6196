//! One ordered walk over several layers and the engine.

use fjall::Slice;

use super::cuts::Cuts;
use super::engine::{EngineError, EngineRange, EngineView};
use super::overlay::Peek;
use super::stem::{self, Key};

/// Dead rows that are stepped over one by one before the engine is asked to seek past all of them.
const STEPS_BEFORE_SEEK: usize = 16;

/// The walk. At a key that several have, the first layer wins, the engine comes last.
pub(crate) struct Merge<'a, V> {
    layers: Vec<Peek<'a, V>>,
    engine: Option<EngineCursor<'a>>,
}

/// The next entry and where it was found.
pub(crate) enum Found<'a, V> {
    Layer(&'a Key, &'a V),
    /// Key with the engine's prefix, value.
    Engine(Slice, Slice),
}

impl<'a, V> Merge<'a, V> {
    pub(crate) fn new(layers: Vec<Peek<'a, V>>, engine: Option<EngineCursor<'a>>) -> Self {
        Self { layers, engine }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Found<'a, V>>, EngineError> {
        let mut first: Option<(&'a Key, &'a V)> = None;
        for layer in &self.layers {
            if let Some(head) = layer.head
                && first.is_none_or(|(key, _)| head.0 < key)
            {
                first = Some(head);
            }
        }
        let engine_key = match &self.engine {
            Some(cursor) => cursor.key(),
            None => None,
        };
        let Some((key, value)) = first else {
            return self.take_engine();
        };
        if engine_key.is_some_and(|engine_key| engine_key < &**key) {
            return self.take_engine();
        }
        if let Some(cursor) = &mut self.engine
            && cursor.key() == Some(&**key)
        {
            cursor.step()?;
        }
        for layer in &mut self.layers {
            if layer.head.is_some_and(|(head, _)| head == key) {
                layer.step();
            }
        }
        Ok(Some(Found::Layer(key, value)))
    }

    fn take_engine(&mut self) -> Result<Option<Found<'a, V>>, EngineError> {
        let Some(cursor) = &mut self.engine else {
            return Ok(None);
        };
        let Some((key, value)) = cursor.head.take() else {
            return Ok(None);
        };
        cursor.step()?;
        Ok(Some(Found::Engine(key, value)))
    }
}

/// An ordered walk over the engine that leaves out what lies below cuts.
pub(crate) struct EngineCursor<'a> {
    view: &'a EngineView,
    prefix: u8,
    to: Vec<u8>,
    range: EngineRange,
    head: Option<(Slice, Slice)>,
    /// Below these, the engine has nothing to say.
    masks: Vec<&'a Cuts>,
}

impl<'a> EngineCursor<'a> {
    pub(crate) fn new(
        view: &'a EngineView,
        prefix: u8,
        (from, to): (Vec<u8>, Vec<u8>),
        masks: Vec<&'a Cuts>,
    ) -> Result<Self, EngineError> {
        let range = view.range(prefix, &from, &to);
        let mut cursor = Self {
            view,
            prefix,
            to,
            range,
            head: None,
            masks,
        };
        cursor.step()?;
        Ok(cursor)
    }

    fn key(&self) -> Option<&[u8]> {
        self.head.as_ref().and_then(|(key, _)| key.get(1..))
    }

    fn step(&mut self) -> Result<(), EngineError> {
        let mut steps = 0;
        loop {
            self.head = self.range.next().transpose()?;
            let Some(past) = self.key().and_then(|key| self.masked(key)) else {
                return Ok(());
            };
            steps += 1;
            if steps > STEPS_BEFORE_SEEK {
                steps = 0;
                if past >= self.to {
                    self.head = None;
                    return Ok(());
                }
                self.range = self.view.range(self.prefix, &past, &self.to);
            }
        }
    }

    /// If the key lies below a mask, where the masked part ends.
    fn masked(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.masks
            .iter()
            .find_map(|cuts| cuts.outermost(key))
            .map(stem::past)
    }
}

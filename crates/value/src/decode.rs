//! What the formats share of decoding: the limits, the two passes over a large body, and the spelling behind them.

use crate::budget::{self, Budget};
use crate::spelling::{self, ReadError, Spelled};
use crate::{DecodeError, Format, Limits, Value, cbor, json, msgpack};

/// A longer body is gone over before anything of it is built: what would be refused takes no memory, and every array
/// and map is made at its size. A shorter one is small whatever it says, and would only take longer.
const MEASURED_BYTES: usize = 256 << 10;

/// Decodes one value; every key is data.
pub(crate) fn plain(format: Format, bytes: &[u8], limits: &Limits) -> Result<Value, DecodeError> {
    marked(format, bytes, limits).map(|(value, _)| value)
}

/// Decodes one value, and reads the keys of [`spelling`] in it.
pub(crate) fn spelled(format: Format, bytes: &[u8], limits: &Limits) -> Result<Spelled, ReadError> {
    let (value, marked) = marked(format, bytes, limits)?;
    Ok(if marked {
        spelling::read(value)?
    } else {
        Spelled::plain(value)
    })
}

/// The value, and whether it has keys that [`spelling`] may read.
fn marked(format: Format, bytes: &[u8], limits: &Limits) -> Result<(Value, bool), DecodeError> {
    budget::whole(bytes, limits)
        .map_err(|fault| fault.at(0, (format == Format::Json).then_some((1, 1))))?;
    let mut budget = if bytes.len() > MEASURED_BYTES {
        let mut counted = Budget::<false>::new(limits);
        let _nothing: Value = read(format, bytes, &mut counted)?;
        counted.again()
    } else {
        Budget::new(limits)
    };
    let value = read(format, bytes, &mut budget)?;
    Ok((value, budget.marked))
}

fn read<const KEEPS: bool>(
    format: Format,
    bytes: &[u8],
    budget: &mut Budget<KEEPS>,
) -> Result<Value, DecodeError> {
    match format {
        Format::Json => json::read(bytes, budget),
        Format::Cbor => cbor::read(bytes, budget),
        Format::MessagePack => msgpack::read(bytes, budget),
    }
}

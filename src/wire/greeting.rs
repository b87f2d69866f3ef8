//! How a peer of ZeroMQ begins: the greeting of ZMTP 3 with the mechanism NULL, and the READY
//! command that says its identity (RFC 23 of ZeroMQ). Bytes in, an identity out; no I/O.

/// The greeting; what follows are frames.
pub const GREETING_BYTES: usize = 64;
/// What a READY command may have. Those of libzmq have less than 400 bytes.
const READY_BYTES_MAX: usize = 4 << 10;

const SIGNATURE_ENDS: usize = 10;
const VERSION_MIN: u8 = 3;
const MECHANISM: &[u8; 20] = b"NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const MECHANISM_AT: usize = 12;
/// The flags of a command's frame, and of one whose length has eight bytes.
const COMMAND: u8 = 4;
const LONG_COMMAND: u8 = 6;
const READY: &[u8] = b"\x05READY";
const IDENTITY: &[u8] = b"Identity";

/// Reads all that a peer has said so far: the identity that it claims, empty if it has none;
/// nothing if more is needed to tell.
///
/// # Errors
/// What no peer of ZMTP 3 that does not encrypt would say, as soon as that is certain.
pub fn read(said: &[u8]) -> Result<Option<&[u8]>, &'static str> {
    let is = |at: usize, fits: &dyn Fn(u8) -> bool| said.get(at).is_none_or(|byte| fits(*byte));
    if !is(0, &|byte| byte == 0xFF) || !is(SIGNATURE_ENDS - 1, &|byte| byte == 0x7F) {
        return Err("no ZMTP");
    }
    if !is(SIGNATURE_ENDS, &|byte| byte >= VERSION_MIN) {
        return Err("a version of ZMTP before 3");
    }
    let mechanism = said.get(MECHANISM_AT..).unwrap_or_default();
    let mut expected = MECHANISM.iter().zip(mechanism);
    if !expected.all(|(expected, byte)| expected == byte) {
        return Err("another mechanism than NULL");
    }
    let Some(frame) = said.get(GREETING_BYTES..) else { return Ok(None) };
    let Some((n_bytes, body)) = length(frame)? else { return Ok(None) };
    if n_bytes > READY_BYTES_MAX {
        return Err("a READY command that is too long");
    }
    match body.get(..n_bytes) {
        Some(body) => identity(body).map(Some),
        None => Ok(None),
    }
}

/// The length of a command, and what follows it.
fn length(frame: &[u8]) -> Result<Option<(usize, &[u8])>, &'static str> {
    match frame.split_first() {
        None => Ok(None),
        Some((&COMMAND, rest)) => {
            Ok(rest.split_first().map(|(n_bytes, body)| (usize::from(*n_bytes), body)))
        }
        Some((&LONG_COMMAND, rest)) => Ok(rest.split_first_chunk().map(|(n_bytes, body)| {
            (usize::try_from(u64::from_be_bytes(*n_bytes)).unwrap_or(usize::MAX), body)
        })),
        Some(_) => Err("no command after the greeting"),
    }
}

/// The identity among the properties of a READY command.
fn identity(body: &[u8]) -> Result<&[u8], &'static str> {
    let mut rest = body.strip_prefix(READY).ok_or("another command than READY")?;
    let mut identity = None;
    while !rest.is_empty() {
        let (name, value);
        (name, value, rest) = property(rest).ok_or("a broken READY command")?;
        // ZeroMQ says whose identity counts only for one of them.
        if name.eq_ignore_ascii_case(IDENTITY) && identity.replace(value).is_some() {
            return Err("two identities");
        }
    }
    match identity.unwrap_or_default() {
        // ROUTERs make such identities for peers that have none.
        [0, ..] => Err("an identity that begins with zero"),
        identity => Ok(identity),
    }
}

/// A name, its value, and what follows.
fn property(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (n_bytes, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*n_bytes))?;
    let (n_bytes, rest) = rest.split_first_chunk()?;
    let (value, rest) =
        rest.split_at_checked(usize::try_from(u32::from_be_bytes(*n_bytes)).ok()?)?;
    Some((name, value, rest))
}

/// What a DEALER says first.
#[cfg(test)]
pub(super) fn said_by(properties: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = READY.to_vec();
    for (name, value) in properties {
        body.push(u8::try_from(name.len()).unwrap());
        body.extend(name.as_bytes());
        body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend(*value);
    }
    let mut said = vec![0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 3, 0];
    said.extend(MECHANISM);
    said.resize(GREETING_BYTES, 0);
    match u8::try_from(body.len()) {
        Ok(n_bytes) => said.extend([COMMAND, n_bytes]),
        Err(_) => {
            said.push(LONG_COMMAND);
            said.extend((body.len() as u64).to_be_bytes());
        }
    }
    said.extend(body);
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEALER: (&str, &[u8]) = ("Socket-Type", b"DEALER");

    #[test]
    fn an_identity_is_read_as_soon_as_all_of_it_is_there() {
        let long = [b'x'; 300];
        for name in [b"engine".as_slice(), b"", b"\xFF\0", &long] {
            let said = said_by(&[DEALER, ("Identity", name), ("X-More", b"")]);
            for n_bytes in 0..said.len() {
                assert_eq!(read(&said[..n_bytes]), Ok(None), "{n_bytes} bytes");
            }
            assert_eq!(read(&said), Ok(Some(name)));
            assert_eq!(read(&[&said, b"\0\x02ab".as_slice()].concat()), Ok(Some(name)));
        }
    }

    #[test]
    fn names_of_properties_have_no_case_and_an_identity_may_be_missing() {
        assert_eq!(read(&said_by(&[("IDENTITY", b"a"), DEALER])), Ok(Some(b"a".as_slice())));
        assert_eq!(read(&said_by(&[("identity", b"a")])), Ok(Some(b"a".as_slice())));
        assert_eq!(read(&said_by(&[DEALER])), Ok(Some(b"".as_slice())));
        assert_eq!(read(&said_by(&[])), Ok(Some(b"".as_slice())));
    }

    #[test]
    fn whatever_is_no_zmtp_3_without_encryption_is_refused_by_its_first_wrong_byte() {
        let good = said_by(&[DEALER, ("Identity", b"engine")]);
        for (at, wrong) in [(0, b'G'), (9, 0), (10, 2), (12, b'C'), (16, b'X'), (31, 1), (64, 0)] {
            let mut said = good.clone();
            said[at] = wrong;
            assert!(read(&said[..=at]).is_err(), "{at}");
            assert_eq!(read(&said[..at]), Ok(None), "{at}");
        }
        let mut ping = good;
        ping[67] = b'P';
        assert_eq!(read(&ping), Err("another command than READY"));
    }

    #[test]
    fn what_is_broken_or_too_long_is_refused() {
        let good = said_by(&[DEALER, ("Identity", b"engine")]);
        let mut cut = good.clone();
        cut[65] -= 1;
        assert_eq!(read(&cut), Err("a broken READY command"));
        let mut huge = good[..64].to_vec();
        huge.extend([LONG_COMMAND, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
        assert_eq!(read(&huge), Err("a READY command that is too long"));
        let long = said_by(&[("Identity", &[b'x'; READY_BYTES_MAX])]);
        assert_eq!(read(&long[..80]), Err("a READY command that is too long"));
        let mut value = good;
        let at = value.len() - 10;
        value[at..at + 4].fill(0xFF);
        assert_eq!(read(&value), Err("a broken READY command"));
        let two = said_by(&[("Identity", b"a"), ("identity", b"b")]);
        assert_eq!(read(&two), Err("two identities"));
        assert!(read(&said_by(&[("Identity", b"\0abcd")])).is_err());
    }
}

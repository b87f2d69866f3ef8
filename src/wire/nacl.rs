//! What libzmq's CURVE needs of NaCl, made of audited Rust crates: Curve25519, XSalsa20, Poly1305.
//! libzmq is compiled with the declarations of its own `tweetnacl.h` and linked with these.
//!
//! Boxes have NaCl's old form: the plaintext begins with 32 zero bytes, the box with 16, and both
//! are equally long. Nothing here keeps a secret longer than a call.
#![expect(unsafe_code, reason = "functions with C's interface, and slices made of their pointers")]

use std::ffi::{c_int, c_uchar, c_ulonglong};

use crypto_secretbox::aead::generic_array::GenericArray;
use crypto_secretbox::{AeadInPlace, KeyInit, XSalsa20Poly1305};
use x25519_dalek::{PublicKey, StaticSecret};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// Zero bytes before a plaintext.
const ZERO_BYTES: usize = 32;
/// Zero bytes before a box; the authenticator follows them.
const BOX_ZERO_BYTES: usize = 16;

/// Seals `message` in place: `None` if it is shorter than its zero bytes.
fn seal(message: &mut [u8], nonce: &[u8; NONCE_BYTES], key: &[u8; KEY_BYTES]) -> Option<()> {
    let (head, text) = message.split_at_mut_checked(ZERO_BYTES)?;
    let cipher = XSalsa20Poly1305::new(key.into());
    let tag = cipher.encrypt_in_place_detached(nonce.into(), b"", text).ok()?;
    head[..BOX_ZERO_BYTES].fill(0);
    head[BOX_ZERO_BYTES..].copy_from_slice(&tag);
    Some(())
}

/// Opens `sealed` in place: `None` if it is not what the key sealed under this nonce.
fn unseal(sealed: &mut [u8], nonce: &[u8; NONCE_BYTES], key: &[u8; KEY_BYTES]) -> Option<()> {
    let (head, text) = sealed.split_at_mut_checked(ZERO_BYTES)?;
    let cipher = XSalsa20Poly1305::new(key.into());
    let tag = GenericArray::clone_from_slice(&head[BOX_ZERO_BYTES..]);
    cipher.decrypt_in_place_detached(nonce.into(), b"", text, &tag).ok()?;
    head.fill(0);
    Some(())
}

/// The key that two peers share; `None` if the other's public key leads to none.
fn shared(public: [u8; KEY_BYTES], secret: [u8; KEY_BYTES]) -> Option<[u8; KEY_BYTES]> {
    let shared = StaticSecret::from(secret).diffie_hellman(&PublicKey::from(public));
    if !shared.was_contributory() {
        return None;
    }
    let zero = GenericArray::default();
    let key = salsa20::hsalsa::<salsa20::cipher::consts::U10>(
        GenericArray::from_slice(shared.as_bytes()),
        &zero,
    );
    Some(key.into())
}

/// A new secret key.
pub(super) fn new_secret() -> [u8; KEY_BYTES] {
    let mut secret = [0; KEY_BYTES];
    fill(&mut secret);
    secret
}

/// The public key to a secret one.
pub(super) fn public_of(secret: [u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
    PublicKey::from(&StaticSecret::from(secret)).to_bytes()
}

fn code(done: Option<()>) -> c_int {
    if done.is_some() { 0 } else { -1 }
}

/// Reads an array that libzmq points to.
///
/// # Safety
/// `at` points to `N` bytes that can be read.
unsafe fn array<const N: usize>(at: *const c_uchar) -> [u8; N] {
    // SAFETY: the caller says that so many bytes are there.
    unsafe { at.cast::<[u8; N]>().read() }
}

/// Copies `n` bytes and returns the copy, to be changed in place.
///
/// # Safety
/// `from` points to `n` bytes that can be read, `to` to `n` other bytes that can be written and
/// that nobody else uses during `'a`.
unsafe fn copied<'a>(to: *mut c_uchar, from: *const c_uchar, n: c_ulonglong) -> &'a mut [u8] {
    let n = usize::try_from(n).expect("a message fits the address space");
    // SAFETY: the caller says that both are there, and apart.
    unsafe { std::ptr::copy(from, to, n) };
    // SAFETY: `to` was written just now, and is the caller's alone.
    unsafe { std::slice::from_raw_parts_mut(to, n) }
}

/// # Safety
/// As NaCl says: `sealed` and `message` have `n` bytes, `nonce` 24, `key` 32.
#[unsafe(no_mangle)]
unsafe extern "C" fn crypto_secretbox(
    sealed: *mut c_uchar,
    message: *const c_uchar,
    n: c_ulonglong,
    nonce: *const c_uchar,
    key: *const c_uchar,
) -> c_int {
    // SAFETY: libzmq gives buffers of these sizes.
    let (sealed, nonce, key) = unsafe { (copied(sealed, message, n), array(nonce), array(key)) };
    code(seal(sealed, &nonce, &key))
}

/// # Safety
/// As `crypto_secretbox`.
#[unsafe(no_mangle)]
unsafe extern "C" fn crypto_secretbox_open(
    message: *mut c_uchar,
    sealed: *const c_uchar,
    n: c_ulonglong,
    nonce: *const c_uchar,
    key: *const c_uchar,
) -> c_int {
    // SAFETY: libzmq gives buffers of these sizes.
    let (message, nonce, key) = unsafe { (copied(message, sealed, n), array(nonce), array(key)) };
    code(unseal(message, &nonce, &key))
}

/// # Safety
/// As `crypto_secretbox`; `key` was made by `crypto_box_beforenm`.
#[unsafe(no_mangle)]
unsafe extern "C" fn crypto_box_afternm(
    sealed: *mut c_uchar,
    message: *const c_uchar,
    n: c_ulonglong,
    nonce: *const c_uchar,
    key: *const c_uchar,
) -> c_int {
    // SAFETY: the same arguments.
    unsafe { crypto_secretbox(sealed, message, n, nonce, key) }
}

/// # Safety
/// As `crypto_box_afternm`.
#[unsafe(no_mangle)]
unsafe extern "C" fn crypto_box_open_afternm(
    message: *mut c_uchar,
    sealed: *const c_uchar,
    n: c_ulonglong,
    nonce: *const c_uchar,
    key: *const c_uchar,
) -> c_int {
    // SAFETY: the same arguments.
    unsafe { crypto_secretbox_open(message, sealed, n, nonce, key) }
}

/// # Safety
/// As `crypto_secretbox`, with two keys of 32 bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn crypto_box(
    sealed: *mut c_uchar,
    message: *const c_uchar,
    n: c_ulonglong,
    nonce: *const c_uchar,
    public: *const c_uchar,
    secret: *const c_uchar,
) -> c_int {
    // SAFETY: libzmq gives buffers of these sizes.
    let (sealed, nonce) = unsafe { (copied(sealed, message, n), array(nonce)) };
    // SAFETY: keys have 32 bytes.
    let (public, secret) = unsafe { (array(public), array(secret)) };
    code(shared(public, secret).and_then(|key| seal(sealed, &nonce, &key)))
}

/// # Safety
/// As `crypto_box`.
#[unsafe(no_mangle)]
unsafe extern "C" fn crypto_box_open(
    message: *mut c_uchar,
    sealed: *const c_uchar,
    n: c_ulonglong,
    nonce: *const c_uchar,
    public: *const c_uchar,
    secret: *const c_uchar,
) -> c_int {
    // SAFETY: libzmq gives buffers of these sizes.
    let (message, nonce) = unsafe { (copied(message, sealed, n), array(nonce)) };
    // SAFETY: keys have 32 bytes.
    let (public, secret) = unsafe { (array(public), array(secret)) };
    code(shared(public, secret).and_then(|key| unseal(message, &nonce, &key)))
}

/// # Safety
/// All three have 32 bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn crypto_box_beforenm(
    key: *mut c_uchar,
    public: *const c_uchar,
    secret: *const c_uchar,
) -> c_int {
    // SAFETY: keys have 32 bytes.
    let (public, secret) = unsafe { (array(public), array(secret)) };
    // libzmq takes a failure for a bug of its own and aborts: a peer whose public key leads to no
    // shared key gets one that nobody has.
    let made = shared(public, secret).unwrap_or_else(new_secret);
    // SAFETY: there is room for a key.
    unsafe { key.cast::<[u8; KEY_BYTES]>().write(made) };
    0
}

/// # Safety
/// Both have 32 bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn crypto_scalarmult_base(public: *mut c_uchar, secret: *const c_uchar) -> c_int {
    // SAFETY: keys have 32 bytes.
    let secret: [u8; KEY_BYTES] = unsafe { array(secret) };
    // SAFETY: there is room for a key.
    unsafe { public.cast::<[u8; KEY_BYTES]>().write(public_of(secret)) };
    0
}

/// # Safety
/// Both have 32 bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn crypto_box_keypair(public: *mut c_uchar, secret: *mut c_uchar) -> c_int {
    // SAFETY: there is room for a key.
    unsafe { secret.cast::<[u8; KEY_BYTES]>().write(new_secret()) };
    // SAFETY: the secret was written just now.
    unsafe { crypto_scalarmult_base(public, secret) }
}

/// # Safety
/// `bytes` points to `n` bytes that can be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn randombytes(bytes: *mut c_uchar, n: c_ulonglong) {
    let n = usize::try_from(n).expect("a buffer fits the address space");
    // SAFETY: the caller says that so many bytes are there.
    let bytes = unsafe { std::slice::from_raw_parts_mut(bytes, n) };
    bytes.fill(0);
    fill(bytes);
}

/// The operating system's randomness needs no opening.
#[unsafe(no_mangle)]
extern "C" fn sodium_init() -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn randombytes_close() -> c_int {
    0
}

fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system has randomness");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
    }

    /// The example of "Cryptography in NaCl", as in NaCl's own tests: keys, nonce, first bytes.
    const ALICE: &str = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
    const BOB_PUBLIC: &str = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
    const SHARED: &str = "1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389";
    const NONCE: &str = "69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37";
    const TEXT: &str = "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffc\
        e5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7f\
        a1348057e2f6556ad6b1318a024a838f21af1fde048977eb48f59ffd4924ca1c60902e52f0a089bc76897040\
        e082f937763848645e0705";
    const SEALED: &str = "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce\
        48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb8\
        63d51738b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de\
        56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5";

    #[test]
    fn a_box_is_as_in_nacls_own_example() {
        let key = shared(bytes(BOB_PUBLIC), bytes(ALICE)).unwrap();
        assert_eq!(key, bytes(SHARED));
        let mut text = [0; ZERO_BYTES + 131];
        text[ZERO_BYTES..].copy_from_slice(&bytes::<131>(TEXT));
        let plain = text;
        seal(&mut text, &bytes(NONCE), &key).unwrap();
        assert_eq!(text[BOX_ZERO_BYTES..], bytes::<147>(SEALED));
        let mut forged = text;
        forged[50] ^= 1;
        assert_eq!(unseal(&mut forged, &bytes(NONCE), &key), None);
        unseal(&mut text, &bytes(NONCE), &key).unwrap();
        assert_eq!(text, plain);
    }

    #[test]
    fn what_is_too_short_is_no_box_and_zero_is_no_key() {
        assert_eq!(seal(&mut [0; 31], &[0; NONCE_BYTES], &[0; KEY_BYTES]), None);
        assert_eq!(unseal(&mut [0; 31], &[0; NONCE_BYTES], &[0; KEY_BYTES]), None);
        assert_eq!(shared([0; KEY_BYTES], bytes(ALICE)), None);
    }
}

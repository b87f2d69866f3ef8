//! Vectors of plain numbers as the bytes they are in memory, which on a little-endian machine are
//! the bytes that the codec writes: nothing is written or read number by number, nor compiled again
//! in cells.
#![expect(unsafe_code, reason = "numbers as the bytes they are")]

use std::any::TypeId;

macro_rules! numbers {
    ($($type:ty),*) => {
        /// Whether `T` is a plain number whose bytes in memory are those that travel.
        pub(crate) fn is_number<T: 'static>() -> bool {
            let numbers = [$(TypeId::of::<$type>()),*];
            cfg!(target_endian = "little") && numbers.contains(&TypeId::of::<T>())
        }

        /// The numbers of a vector or slice of them, as their number and their bytes; `None` for
        /// everything else.
        pub(crate) fn whole<T: ?Sized + 'static>(value: &T) -> Option<(u64, &[u8])> {
            let ty = TypeId::of::<T>();
            $(
                if ty == TypeId::of::<Vec<$type>>() {
                    // SAFETY: `T` is this type (the line above), so this is the same reference.
                    let values = unsafe { &*std::ptr::from_ref(value).cast::<Vec<$type>>() };
                    return Some((values.len() as u64, bytes_of(values)?));
                }
                if ty == TypeId::of::<[$type]>() {
                    // SAFETY: `T` is this type, so this is the same reference, of the same size.
                    let values = unsafe { std::mem::transmute_copy::<&T, &[$type]>(&value) };
                    return Some((values.len() as u64, bytes_of(values)?));
                }
            )*
            None
        }
    };
}

numbers!(u8, i8, u16, i16, u32, i32, u64, i64, u128, i128, f32, f64);

/// The bytes of numbers; `None` if they are none.
pub(crate) fn bytes_of<T: 'static>(values: &[T]) -> Option<&[u8]> {
    is_number::<T>().then(|| {
        // SAFETY: a plain number has no padding: each of its bytes is one, and needs no alignment.
        unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
    })
}

/// Appends the numbers that these bytes are, which must be whole ones. False, and nothing done, if
/// `T` is no number.
pub(crate) fn extend<T: 'static>(out: &mut Vec<T>, bytes: &[u8]) -> bool {
    if !is_number::<T>() || !bytes.len().is_multiple_of(size_of::<T>()) {
        return false;
    }
    let n = bytes.len() / size_of::<T>();
    out.reserve(n);
    // SAFETY: there is room for `n` more, `bytes` is not part of it, and any bytes are a number.
    unsafe {
        let end = out.as_mut_ptr().add(out.len()).cast::<u8>();
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), end, bytes.len());
        out.set_len(out.len() + n);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_bytes_and_bytes_are_numbers() {
        let numbers = vec![1.5f64, -2.0, f64::INFINITY];
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        assert_eq!(whole(&numbers), Some((3, &*bytes)));
        assert_eq!(whole(&numbers[1..]), Some((2, &bytes[8..])));
        assert_eq!(whole::<[f64]>(&[]), Some((0, &[][..])));
        let mut read = vec![0.0f64];
        assert!(extend(&mut read, &bytes) && !extend(&mut read, &bytes[1..]));
        assert_eq!(read, [0.0, 1.5, -2.0, f64::INFINITY]);
    }

    #[test]
    fn everything_else_is_not() {
        assert_eq!(whole("text"), None);
        assert_eq!(whole(&1.5f64), None);
        assert_eq!(whole(&vec![true]), None);
        assert_eq!(whole(&vec!['a']), None);
        assert_eq!(bytes_of(&[(1u8, 2u32)]), None);
        assert!(!extend(&mut vec![true], &[2]));
    }
}

//! Secrets that whoever connects must know: made up, and compared so that the time tells nothing.

use std::io::Read;

/// A random one, in bytes.
const TOKEN_BYTES: usize = 24;

/// A secret that nobody guesses, in letters and digits.
///
/// # Errors
/// When the system gives no random bytes.
pub fn random_token() -> std::io::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether two texts are equal, in a time that tells nothing about how much of them is.
pub fn equal(one: &str, other: &str) -> bool {
    let differences = one.bytes().zip(other.bytes()).fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    one.len() == other.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_compared_whole() {
        assert!(equal("abc", "abc"));
        assert!(!equal("abc", "abd") && !equal("abc", "ab") && !equal("", "a"));
    }

    #[test]
    fn no_two_tokens_are_the_same() {
        let (one, other) = (random_token().unwrap(), random_token().unwrap());
        assert!(one != other && one.len() == 2 * TOKEN_BYTES);
    }
}
